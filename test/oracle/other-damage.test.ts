/** Damage that has no place in `damage-table.ts`, since it is not of the sample image, or leaves no state to compare. */

import { describe, expect, test } from 'vitest';
import { describeInfo } from '../../src/open-image/describe-image.ts';
import { withoutKeys } from '../../src/open-image/layer-keys.ts';
import { NO_CHAIN_OPTIONS } from '../../src/open-image/layers.ts';
import { closeImage, openImage, snapshotsOf } from '../../src/open-image/open-image.ts';
import { catchError } from '../support/catch-error.ts';
import { runCommand, tryCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { DamagedImage } from './damaged-image.ts';
import { checkHere } from './expect-same-check.ts';
import { checkWithQemu, createImage, createSnapshot, runQemuIo } from './qemu.ts';

const MIB = 2 ** 20;

interface Row {
  readonly title: string;
  readonly options?: readonly string[];
  readonly hasBitmap?: boolean;
  readonly hasSnapshot?: boolean;
  readonly damage: (image: DamagedImage) => void;
  /** Whether QEMU opens the image. */
  readonly isOpenedByQemu: boolean;
  /** Of ours: the code of the error of opening, or none. */
  readonly code?: string;
  /** Part of the error, or else of what `info` warns of. */
  readonly told: string;
  /** Exit codes of QEMU's check and of ours. */
  readonly check: readonly [number, number];
}

const refused = (title: string, told: string, damage: Row['damage'], code = 'DAMAGED'): Row => ({
  title,
  damage,
  isOpenedByQemu: false,
  code,
  told,
  check: [1, 1],
});

const ROWS: readonly Row[] = [
  refused('cluster_bits of 8', 'header field cluster_bits is 8', (image) => image.writeU32(20, 8)),
  refused('cluster_bits of 22', 'header field cluster_bits is 22', (image) => image.writeU32(20, 22)),
  refused('refcount_order of 7', 'header field refcount_order is 7', (image) => image.writeU32(96, 7)),
  refused('header_length of 100', 'header field header_length is 100', (image) => image.writeU32(100, 100)),
  refused('header_length of 128 KiB', 'header field header_length is 131072', (image) => image.writeU32(100, 131_072)),
  refused('a backing name behind the first cluster', 'header field backing_file_offset is 65530', (image) => {
    image.writeU64(8, 65_530n);
    image.writeU32(16, 100);
  }),
  refused('a backing name of 1024 bytes', 'backing_file_size 1024', (image) => {
    image.writeU64(8, 1024n);
    image.writeU32(16, 1024);
  }),
  refused('zstd without its feature bit', 'header field compression_type is 1', (image) =>
    image.write(104, Buffer.from([1])),
  ),
  refused('the feature bit without zstd', 'header field compression_type is 0', (image) => image.writeU64(72, 8n)),
  refused(
    'an unknown compression type',
    'unknown compression type 2',
    (image) => {
      image.writeU64(72, 8n);
      image.write(104, Buffer.from([2]));
    },
    'UNSUPPORTED',
  ),
  {
    title: 'a bitmap directory with fewer entries than told',
    hasBitmap: true,
    damage: (image) => image.writeU32(extensionAt(image, '23852875') + 8, 9),
    isOpenedByQemu: false,
    told: 'the persistent bitmaps are not shown: bitmap directory entry 1 ',
    check: [1, 1],
  },
  ...[
    { field: 'vm_state_size_large', at: 40 },
    { field: 'disk_size', at: 48 },
  ].map(
    ({ field, at }): Row => ({
      title: `a snapshot with a ${field} of 2^60`,
      hasSnapshot: true,
      damage: (image) => image.writeU64(Number(image.u64(64)) + at, 1n << 60n),
      isOpenedByQemu: true,
      told: `snapshot field ${field} is 1152921504606846976`,
      check: [0, 0],
    }),
  ),
  {
    title: 'snapshots of an image with a data file',
    options: ['data_file=disk.data'],
    damage: (image) => {
      image.writeU32(60, 1);
      image.writeU64(64, BigInt(Math.ceil(image.sizeBytes / 65_536) * 65_536));
    },
    isOpenedByQemu: true,
    told: 'header field nb_snapshots is 1, but an image with an external data file has none',
    check: [2, 2],
  },
];

function extensionAt(image: DamagedImage, type: string): number {
  return image.read(0, 4096).indexOf(Buffer.from(type, 'hex'));
}

describe.each(ROWS)('$title', ({ options = [], hasBitmap, hasSnapshot, damage, isOpenedByQemu, code, told, check }) => {
  test('is as the notes say', () =>
    withTemporaryFolder((folder) => {
      const path = `${folder}/disk.qcow2`;
      createImage(path, { sizeBytes: 4 * MIB, options: options.map((o) => o.replace('=', `=${folder}/`)) });
      runQemuIo(path, ['write -q 0 256k']);
      if (hasBitmap === true) runCommand('qemu-img', ['bitmap', '--add', path, 'one']);
      if (hasSnapshot === true) createSnapshot(path, 'monday');
      const image = new DamagedImage(path);
      damage(image);
      image.close();
      const converted = tryCommand('qemu-img', ['convert', '-O', 'raw', path, `${folder}/disk.raw`]);
      expect(converted.status === 0, converted.stderr).toBe(isOpenedByQemu);
      expect([checkWithQemu(path).status, checkHere(path).status]).toEqual(check);
      const open = () => openImage(path, withoutKeys, NO_CHAIN_OPTIONS);
      if (code === undefined) {
        const opened = open();
        try {
          expect(snapshotsOf(opened)).toHaveLength(0);
          expect(describeInfo(opened).problems).toEqual([expect.stringContaining(told)]);
        } finally {
          closeImage(opened);
        }
      } else {
        expect(catchError(open)).toMatchObject({ code, message: expect.stringContaining(told) });
      }
    }));
});
