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

export interface SnapshotEntrySizes {
  readonly l1TableOffset: number;
  /** Entries of the snapshot's L1 table. */
  readonly l1Size: number;
  readonly vmStateBytes: number;
  /** As stored, not rounded; undefined in entries written before the field existed. */
  readonly diskSizeBytes: number | undefined;
}

export interface SnapshotEntry extends SnapshotEntrySizes {
  /** One character per byte (latin1), as the name: the format gives them no encoding. */
  readonly id: string;
  readonly name: string;
  /** Seconds since 1970 (unsigned). */
  readonly dateSeconds: number;
  readonly dateNanoseconds: number;
  readonly vmClockNanoseconds: bigint;
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
 * Decodes sizes and places from an entry's bytes without the padding.
 * @throws Qcow2fsError DAMAGED for a 64-bit size or offset above 2^53 - 1.
 */
export function decodeSnapshotEntrySizes(bytes: Buffer): SnapshotEntrySizes {
  const extraEnd = SNAPSHOT_ENTRY_FIXED_BYTES + bytes.readUInt32BE(36);
  const hasField = (end: number) => extraEnd >= SNAPSHOT_ENTRY_FIXED_BYTES + end;
  return {
    l1TableOffset: readU64BE(bytes, 0, 'snapshot field l1_table_offset'),
    l1Size: bytes.readUInt32BE(8),
    vmStateBytes: hasField(8)
      ? readU64BE(bytes, SNAPSHOT_ENTRY_FIXED_BYTES, 'snapshot field vm_state_size_large')
      : bytes.readUInt32BE(32),
    diskSizeBytes: hasField(16)
      ? readU64BE(bytes, SNAPSHOT_ENTRY_FIXED_BYTES + 8, 'snapshot field disk_size')
      : undefined,
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
  const { l1TableOffset, l1Size, vmStateBytes, diskSizeBytes } = decodeSnapshotEntrySizes(bytes);
  // Not spread: objects that V8 makes from a spread and more outlive its young generation, 40 MB of them for a full table.
  return {
    l1TableOffset,
    l1Size,
    vmStateBytes,
    diskSizeBytes,
    id: bytes.toString('latin1', idOffset, idOffset + idBytes),
    name: bytes.toString('latin1', idOffset + idBytes, idOffset + idBytes + nameBytes),
    dateSeconds: bytes.readUInt32BE(16),
    dateNanoseconds: bytes.readUInt32BE(20),
    vmClockNanoseconds: bytes.readBigUInt64BE(24),
    icount: icount === ICOUNT_NONE ? undefined : icount,
  };
}
