/**
 * ISO 9660 with the Joliet extension, and its predecessor High Sierra. Numbers are stored in both byte orders; offsets within
 * a volume descriptor of 2048 bytes (ECMA-119, sections 8.4 and 9.1; Joliet Specification 1995). With High Sierra they begin 8
 * bytes later, and the last three are at other places:
 *
 * | offset | HS  | size | field                                                          |
 * |--------|-----|------|----------------------------------------------------------------|
 * |      0 |   0 |    1 | type: 1 primary, 2 supplementary, 255 the last                 |
 * |      1 |   1 |    5 | identifier "CD001", "CDROM"                                    |
 * |     40 |  40 |   32 | volume identifier                                              |
 * |     80 |  80 |    8 | volume space size, in logical blocks                           |
 * |     88 |     |   32 | escape sequences, which tell Joliet                            |
 * |    128 | 128 |    4 | logical block size                                             |
 * |    156 | 172 |   34 | root directory record                                          |
 * |    813 | 782 |   16 | creation date as digits; an offset from GMT behind it, not HS  |
 * |    830 | 798 |   16 | modification date                                              |
 *
 * Directory record: length at 0, location of the extent at 2, its length at 10, length of the name at 32, name at 33.
 */

import { decodeLabel, decodeUtf16Label } from './fields.ts';
import type { FileSystemProbe, Prober } from './file-system-probe.ts';
import type { ProbeSource } from './probe-source.ts';

const DESCRIPTOR_OFFSET = 32768;
const DESCRIPTOR_BYTES = 2048;
const HIGH_SIERRA_SHIFT = 8;
/** libblkid looks at this many. */
const MAX_DESCRIPTORS = 16;
const PRIMARY = 1;
const SUPPLEMENTARY = 2;
const LAST = 255;
const JOLIET_ESCAPES = ['%/@', '%/C', '%/E'];
const DIRECTORY_RECORD_BYTES = 34;
const DATE_BYTES = 16;

interface Layout {
  readonly shift: number;
  readonly root: number;
  /** Dates in the order in which they are tried; the offset from GMT is the byte behind. */
  readonly dates: readonly number[];
  readonly hasGmtOffset: boolean;
}

const ISO: Layout = { shift: 0, root: 156, dates: [830, 813], hasGmtOffset: true };
const HIGH_SIERRA: Layout = { shift: HIGH_SIERRA_SHIFT, root: 172, dates: [798, 782], hasGmtOffset: false };

export const iso9660: Prober = {
  probe(source): FileSystemProbe | undefined {
    const layout = layoutOf(source);
    if (layout === undefined) return undefined;
    const { primary, joliet } = readDescriptors(source, layout);
    if (primary === undefined) return undefined;
    const blockBytes = primary.readUInt16LE(128);
    if (blockBytes === 0 || !hasRootDirectory(source, primary.subarray(layout.root), blockBytes)) return undefined;
    return {
      type: 'iso9660',
      label:
        joliet === undefined ? decodeLabel(volumeIdOf(primary)) : jolietLabel(volumeIdOf(joliet), volumeIdOf(primary)),
      uuid: uuidOf(primary, layout),
      // It is never written to once it is made.
      isDirty: false,
      sizeBytes: primary.readUInt32LE(80) * blockBytes,
    };
  },
};

function layoutOf(source: ProbeSource): Layout | undefined {
  if (source.has(DESCRIPTOR_OFFSET + 1, 'CD001')) return ISO;
  return source.has(DESCRIPTOR_OFFSET + HIGH_SIERRA_SHIFT + 1, 'CDROM') ? HIGH_SIERRA : undefined;
}

function readDescriptors(source: ProbeSource, { shift }: Layout): { primary?: Buffer; joliet?: Buffer } {
  const found: { primary?: Buffer; joliet?: Buffer } = {};
  for (let index = 0; index < MAX_DESCRIPTORS; index++) {
    const bytes = source.read(DESCRIPTOR_OFFSET + index * DESCRIPTOR_BYTES, DESCRIPTOR_BYTES)?.subarray(shift);
    if (bytes === undefined || bytes[0] === LAST) break;
    if (bytes[0] === PRIMARY) found.primary ??= bytes;
    if (bytes[0] === SUPPLEMENTARY && shift === 0 && JOLIET_ESCAPES.includes(bytes.toString('latin1', 88, 91))) {
      found.joliet ??= bytes;
    }
  }
  return found;
}

/** As the identifier may be that of an image in a file of another file system: the root directory must name itself. */
function hasRootDirectory(source: ProbeSource, record: Buffer, blockBytes: number): boolean {
  const location = record.readUInt32LE(2);
  if (record.readUInt32LE(10) < DIRECTORY_RECORD_BYTES) return false;
  const first = source.read(location * blockBytes, DIRECTORY_RECORD_BYTES);
  if (first === undefined) return false;
  return (
    first.readUInt8(0) >= DIRECTORY_RECORD_BYTES &&
    first.readUInt8(32) === 1 &&
    first.readUInt8(33) === 0 &&
    first.readUInt32LE(2) === location
  );
}

function volumeIdOf(descriptor: Buffer): Buffer {
  return descriptor.subarray(40, 72);
}

/**
 * Joliet has room for 16 characters, the primary descriptor for 32, but with `_` for those that it cannot have. Where one is
 * the beginning of the other but for that, the label is put together from both (merge_utf16be_ascii() of
 * libblkid/src/superblocks/iso9660.c).
 */
function jolietLabel(joliet: Buffer, ascii: Buffer): string | undefined {
  const wide = [...decodeUnits(joliet)];
  const merged: string[] = [];
  for (const [index, character] of wide.entries()) {
    const plain = ascii.toString('latin1', index, index + 1);
    if (plain === '_') merged.push(character);
    else if (character === '_') merged.push(plain);
    else if (plain.toUpperCase() === character.toUpperCase()) merged.push(/[A-Z]/.test(plain) ? character : plain);
    else return decodeUtf16Label(joliet, 'big');
  }
  const suffix = ascii.toString('latin1', wide.length);
  return decodeUtf16Label(Buffer.from(merged.join('') + suffix, 'utf16le'), 'little');
}

function decodeUnits(bytes: Buffer): string {
  return Buffer.from(bytes).swap16().toString('utf16le');
}

/** The digits of the date of modification, or of creation where that is not set. */
function uuidOf(primary: Buffer, layout: Layout): string | undefined {
  for (const offset of layout.dates) {
    const digits = primary.toString('latin1', offset, offset + DATE_BYTES);
    const isSet = digits !== '0'.repeat(DATE_BYTES) || (layout.hasGmtOffset && primary[offset + DATE_BYTES] !== 0);
    if (isSet) return digits.replace(/^(.{4})(..)(..)(..)(..)(..)(..)$/s, '$1-$2-$3-$4-$5-$6-$7');
  }
  return undefined;
}
