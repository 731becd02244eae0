/**
 * Records of NTFS's master file table and the attributes in them, as far as a probe needs them. Little-endian
 * (libntfs-3g, include/ntfs-3g/layout.h).
 *
 * Any protected record (MFT_RECORD, RESTART_PAGE_HEADER):
 * | offset | size | field                                                                              |
 * |--------|------|------------------------------------------------------------------------------------|
 * |      0 |    4 | magic                                                                              |
 * |      4 |    2 | usa_ofs: the update sequence number, then the last 2 bytes of each 512             |
 * |      6 |    2 | usa_count: of both                                                                 |
 *
 * MFT_RECORD: attrs_offset (2) at 20. ATTR_RECORD:
 * |      0 |    4 | type; 0xffffffff behind the last                                                   |
 * |      4 |    4 | length                                                                             |
 * |      8 |    1 | non_resident                                                                       |
 * |      9 |    1 | name_length                                                                        |
 * |     16 |    4 | value_length, if resident                                                          |
 * |     20 |    2 | value_offset, if resident                                                          |
 * |     32 |    2 | mapping_pairs_offset, if not resident                                              |
 */

import type { ProbeSource } from './probe-source.ts';

const MAGIC_FILE = 'FILE';
const PROTECTED_BYTES = 512;
const AT_END = 0xffff_ffff;
const RESIDENT_HEAD_BYTES = 24;
const NON_RESIDENT_HEAD_BYTES = 64;

export interface MftPlace {
  readonly mftOffset: number;
  readonly recordBytes: number;
  readonly clusterBytes: number;
}

/** True if there is a record; the first ones are in one piece at the start of the table. */
export function hasMftRecord(source: ProbeSource, place: MftPlace, index: number): boolean {
  return source.has(place.mftOffset + index * place.recordBytes, MAGIC_FILE);
}

/** One of the first records; undefined if it is none, or torn. */
export function readMftRecord(source: ProbeSource, place: MftPlace, index: number): Buffer | undefined {
  if (!hasMftRecord(source, place, index)) return undefined;
  const record = source.read(place.mftOffset + index * place.recordBytes, place.recordBytes);
  return record !== undefined && restoreSectorEnds(record) ? record : undefined;
}

/** Puts back the bytes that the update sequence number stands for; false if a sector is of another write than the rest. */
export function restoreSectorEnds(record: Buffer): boolean {
  const offset = record.readUInt16LE(4);
  const count = record.readUInt16LE(6);
  if (count !== record.length / PROTECTED_BYTES + 1 || offset + count * 2 > record.length) return false;
  const sequence = record.readUInt16LE(offset);
  for (let sector = 1; sector < count; sector++) {
    const end = sector * PROTECTED_BYTES - 2;
    if (record.readUInt16LE(end) !== sequence) return false;
    record.writeUInt16LE(record.readUInt16LE(offset + sector * 2), end);
  }
  return true;
}

/** The value of the first attribute of this type, if it is in the record. */
export function residentValueOf(record: Buffer, type: number): Buffer | undefined {
  const attribute = findAttribute(record, type);
  if (attribute === undefined || attribute.length < RESIDENT_HEAD_BYTES || attribute[8] !== 0) return undefined;
  const offset = attribute.readUInt16LE(20);
  const length = attribute.readUInt32LE(16);
  return offset + length > attribute.length ? undefined : attribute.subarray(offset, offset + length);
}

/** The first logical cluster of the first attribute of this type, if it has no name and is not in the record. */
export function firstClusterOf(record: Buffer, type: number): number | undefined {
  const attribute = findAttribute(record, type);
  if (attribute === undefined || attribute.length < NON_RESIDENT_HEAD_BYTES) return undefined;
  if (attribute[8] !== 1 || attribute[9] !== 0) return undefined;
  // Mapping pairs: the low digit of the first byte is the size of a length, the high one that of a cluster behind it.
  const pairs = attribute.subarray(attribute.readUInt16LE(32));
  const head = pairs[0] ?? 0;
  const lengthBytes = head & 0xf;
  const clusterBytes = head >> 4;
  if (clusterBytes < 1 || clusterBytes > 6 || 1 + lengthBytes + clusterBytes > pairs.length) return undefined;
  return pairs.readIntLE(1 + lengthBytes, clusterBytes);
}

function findAttribute(record: Buffer, type: number): Buffer | undefined {
  let offset = record.readUInt16LE(20);
  while (offset + 8 <= record.length) {
    const found = record.readUInt32LE(offset);
    const length = record.readUInt32LE(offset + 4);
    if (found === AT_END || length < 8 || length > record.length - offset) return undefined;
    if (found === type) return record.subarray(offset, offset + length);
    offset += length;
  }
  return undefined;
}
