/**
 * squashfs. Little-endian since version 4 (Documentation/filesystems/squashfs.rst), either byte order before:
 *
 * | offset | size | field                    |
 * |--------|------|--------------------------|
 * |      0 |    4 | s_magic, "hsqs"          |
 * |     28 |    2 | s_major                  |
 * |     40 |    8 | bytes_used, version 4    |
 */

import { toSizeBytes } from './fields.ts';
import type { FileSystemProbe, Prober } from './file-system-probe.ts';

const HEADER_BYTES = 96;
const FIRST_LITTLE_ENDIAN_MAJOR = 4;

export const squashfs: Prober = {
  probe(source): FileSystemProbe | undefined {
    const bytes = source.read(0, HEADER_BYTES);
    const magic = bytes?.toString('latin1', 0, 4);
    if (bytes === undefined || (magic !== 'hsqs' && magic !== 'sqsh')) return undefined;
    const major = magic === 'hsqs' ? bytes.readUInt16LE(28) : bytes.readUInt16BE(28);
    const isVersion4 = major >= FIRST_LITTLE_ENDIAN_MAJOR;
    if (isVersion4 && magic === 'sqsh') return undefined;
    return {
      type: isVersion4 ? 'squashfs' : 'squashfs3',
      label: undefined,
      uuid: undefined,
      // It is never written to once it is made.
      isDirty: false,
      sizeBytes: isVersion4 ? toSizeBytes(bytes.readBigUInt64LE(40), 1) : undefined,
    };
  },
};
