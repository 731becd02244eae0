/**
 * An entry of the snapshot table (docs/interop/qcow2.txt, "Snapshots"), big-endian, padded to 8 bytes.
 *
 * | offset | size | field                                                            |
 * |--------|------|------------------------------------------------------------------|
 * |      0 |    8 | l1_table_offset                                                  |
 * |      8 |    4 | l1_size                                                          |
 * |     12 |    2 | id_str_size                                                      |
 * |     14 |    2 | name_size                                                        |
 * |     16 |    4 | date_sec                                                         |
 * |     20 |    4 | date_nsec                                                        |
 * |     24 |    8 | vm_clock_nsec                                                    |
 * |     32 |    4 | vm_state_size                                                    |
 * |     36 |    4 | extra_data_size                                                  |
 * |     40 |    n | extra data: vm_state_size_large u64, disk_size u64, icount u64   |
 * | 40 + n |      | id_str, then name                                                |
 */

import { readU64BE } from '../../common/bytes.ts';

export const SNAPSHOT_ENTRY_FIXED_BYTES = 40;
/** icount of a snapshot that does not have one. */
const ICOUNT_NONE = 0xffff_ffff_ffff_ffffn;

export interface SnapshotEntry {
  readonly l1TableOffset: number;
  /** Entries of the snapshot's L1 table. */
  readonly l1Size: number;
  /** One character per byte (latin1), as the name: the format gives them no encoding. */
  readonly id: string;
  readonly name: string;
  /** Seconds since 1970 (unsigned). */
  readonly dateSeconds: number;
  readonly dateNanoseconds: number;
  readonly vmClockNanoseconds: bigint;
  readonly vmStateBytes: number;
  /** As stored, not rounded; undefined in entries written before the field existed. */
  readonly diskSizeBytes: number | undefined;
  readonly icount: bigint | undefined;
}

/** What the fixed part says about the length of the whole entry. */
export interface SnapshotEntryLengths {
  readonly extraDataBytes: number;
  readonly idBytes: number;
  readonly nameBytes: number;
}

/** Decodes the lengths from the fixed part (40 bytes). */
export function decodeSnapshotEntryLengths(fixed: Buffer): SnapshotEntryLengths {
  return {
    extraDataBytes: fixed.readUInt32BE(36),
    idBytes: fixed.readUInt16BE(12),
    nameBytes: fixed.readUInt16BE(14),
  };
}

/**
 * Decodes an entry from its bytes without the padding.
 * @throws Qcow2fsError DAMAGED for a 64-bit size or offset above 2^53 - 1.
 */
export function decodeSnapshotEntry(bytes: Buffer): SnapshotEntry {
  const { extraDataBytes, idBytes, nameBytes } = decodeSnapshotEntryLengths(bytes);
  const extra = bytes.subarray(SNAPSHOT_ENTRY_FIXED_BYTES, SNAPSHOT_ENTRY_FIXED_BYTES + extraDataBytes);
  const idOffset = SNAPSHOT_ENTRY_FIXED_BYTES + extraDataBytes;
  const icount = extra.length >= 24 ? extra.readBigUInt64BE(16) : ICOUNT_NONE;
  return {
    l1TableOffset: readU64BE(bytes, 0, 'snapshot field l1_table_offset'),
    l1Size: bytes.readUInt32BE(8),
    id: bytes.toString('latin1', idOffset, idOffset + idBytes),
    name: bytes.toString('latin1', idOffset + idBytes, idOffset + idBytes + nameBytes),
    dateSeconds: bytes.readUInt32BE(16),
    dateNanoseconds: bytes.readUInt32BE(20),
    vmClockNanoseconds: bytes.readBigUInt64BE(24),
    vmStateBytes:
      extra.length >= 8 ? readU64BE(extra, 0, 'snapshot field vm_state_size_large') : bytes.readUInt32BE(32),
    diskSizeBytes: extra.length >= 16 ? readU64BE(extra, 8, 'snapshot field disk_size') : undefined,
    icount: icount === ICOUNT_NONE ? undefined : icount,
  };
}
