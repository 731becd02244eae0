/**
 * Persistent bitmaps (docs/interop/qcow2.txt, "Bitmaps"), big-endian.
 *
 * Header extension:                    | Directory entry, padded to 8 bytes:
 * | offset | size | field            | | offset | size | field                    |
 * |--------|------|------------------| |--------|------|--------------------------|
 * |      0 |    4 | nb_bitmaps       | |      0 |    8 | bitmap_table_offset      |
 * |      4 |    4 | reserved         | |      8 |    4 | bitmap_table_size        |
 * |      8 |    8 | directory_size   | |     12 |    4 | flags                    |
 * |     16 |    8 | directory_offset | |     16 |    1 | type                     |
 *                                      |     17 |    1 | granularity_bits         |
 *                                      |     18 |    2 | name_size                |
 *                                      |     20 |    4 | extra_data_size          |
 *                                      |     24 |      | extra data, then name    |
 */

import { readU64BE } from '../../common/bytes.ts';

export const BITMAPS_EXTENSION_BYTES = 24;
export const BITMAP_DIRECTORY_ENTRY_BYTES = 24;

/** The bitmap was not saved when its writer ended: it may lack any write. */
export const BME_FLAG_IN_USE = 1 << 0;
/** Writers are to keep track of writes in it. */
export const BME_FLAG_AUTO = 1 << 1;
export const BME_RESERVED_FLAGS = ~(BME_FLAG_IN_USE | BME_FLAG_AUTO);

export const BT_DIRTY_TRACKING_BITMAP = 1;

export interface BitmapsExtension {
  readonly bitmapCount: number;
  readonly reserved: number;
  readonly directoryBytes: number;
  readonly directoryOffset: number;
}

export interface BitmapDirectoryEntry {
  readonly tableOffset: number;
  /** Entries of 8 bytes. */
  readonly tableSize: number;
  readonly flags: number;
  readonly type: number;
  /** A bit stands for 2 to the power of this bytes of the guest. */
  readonly granularityBits: number;
  readonly nameBytes: number;
  readonly extraDataBytes: number;
  /** Of the whole entry with its padding. */
  readonly entryBytes: number;
}

/**
 * Decodes the header extension.
 * @throws Qcow2fsError DAMAGED for a 64-bit field above 2^53 - 1.
 */
export function decodeBitmapsExtension(data: Buffer): BitmapsExtension {
  return {
    bitmapCount: data.readUInt32BE(0),
    reserved: data.readUInt32BE(4),
    directoryBytes: readU64BE(data, 8, 'bitmaps extension field bitmap_directory_size'),
    directoryOffset: readU64BE(data, 16, 'bitmaps extension field bitmap_directory_offset'),
  };
}

/**
 * Decodes the fixed part of a directory entry.
 * @throws Qcow2fsError DAMAGED for a 64-bit field above 2^53 - 1.
 */
export function decodeBitmapDirectoryEntry(bytes: Buffer): BitmapDirectoryEntry {
  const nameBytes = bytes.readUInt16BE(18);
  const extraDataBytes = bytes.readUInt32BE(20);
  return {
    tableOffset: readU64BE(bytes, 0, 'bitmap directory field bitmap_table_offset'),
    tableSize: bytes.readUInt32BE(8),
    flags: bytes.readUInt32BE(12),
    type: bytes.readUInt8(16),
    granularityBits: bytes.readUInt8(17),
    nameBytes,
    extraDataBytes,
    entryBytes: Math.ceil((BITMAP_DIRECTORY_ENTRY_BYTES + extraDataBytes + nameBytes) / 8) * 8,
  };
}

/** BME_TABLE_ENTRY_RESERVED_MASK: bits 1-8 and 56-63 of an entry of a bitmap table. */
export function hasReservedBitmapBits(high: number, low: number): boolean {
  return (high & 0xff00_0000) !== 0 || (low & 0x1fe) !== 0;
}

/** Bit 0 of an entry without an offset: all bits of that part are one. */
export function isAllOnesEntry(low: number): boolean {
  return (low & 1) !== 0;
}
