/**
 * L1 and L2 entries (docs/interop/qcow2.txt, "Cluster mapping"). An entry is handled as two u32 halves, `high` and
 * `low`, since that is exact and allocates nothing.
 *
 * L1 entry, and L2 entry of a standard cluster:
 * | bits  | meaning                                                        |
 * |-------|----------------------------------------------------------------|
 * |     0 | L2 only: reads as zeros (version 3, without extended L2)       |
 * |  9-55 | offset of the L2 table or cluster in the file                  |
 * |    62 | L2 only: compressed                                            |
 * |    63 | QCOW_OFLAG_COPIED: refcount is exactly one                     |
 * The other bits are reserved. QEMU ignores them when it reads, and so does this reader.
 *
 * L2 entry of a compressed cluster, with x = 62 - (cluster_bits - 8):
 * | bits  | meaning                                                        |
 * |-------|----------------------------------------------------------------|
 * | 0-x-1 | byte offset of the compressed data, often not aligned          |
 * | x-61  | number of further 512-byte sectors behind the first            |
 */

const TWO_TO_32 = 0x1_0000_0000;
const OFFSET_HIGH_MASK = 0x00ff_ffff;
const OFFSET_LOW_MASK = 0xffff_fe00;
/** What the length of compressed data is counted in. */
export const COMPRESSED_SECTOR_BYTES = 512;

/** Bits 9-55 of an entry. */
export function entryOffset(high: number, low: number): number {
  return (high & OFFSET_HIGH_MASK) * TWO_TO_32 + ((low & OFFSET_LOW_MASK) >>> 0);
}

/** QCOW_OFLAG_COMPRESSED, bit 62. */
export function isCompressedEntry(high: number): boolean {
  return (high & 0x4000_0000) !== 0;
}

/** QCOW_OFLAG_COPIED, bit 63. */
export function isCopiedEntry(high: number): boolean {
  return (high & 0x8000_0000) !== 0;
}

/** L1E_RESERVED_MASK, bits 0-8 and 56-62. */
export function hasReservedL1Bits(high: number, low: number): boolean {
  return (high & 0x7f00_0000) !== 0 || (low & 0x1ff) !== 0;
}

/** L2E_STD_RESERVED_MASK, bits 1-8 and 56-61, of an entry that is not compressed. */
export function hasReservedL2Bits(high: number, low: number): boolean {
  return (high & 0x3f00_0000) !== 0 || (low & 0x1fe) !== 0;
}

/** QCOW_OFLAG_ZERO, bit 0. */
export function isZeroEntry(low: number): boolean {
  return (low & 1) !== 0;
}

/** What decides whether a host offset of 0 is a cluster. */
export interface ClusterPlaces {
  readonly hasDataFile: boolean;
  readonly hasExtendedL2: boolean;
}

/**
 * Whether an entry that is not compressed has a cluster, which may read as zeros all the same. Offset 0 of the image is its header,
 * and so no cluster; in an external data file it is one, which QCOW_OFLAG_COPIED tells ("Standard Cluster Descriptor"), but not
 * below the zero flag (qcow2_get_cluster_type, block/qcow2.h).
 */
export function hasCluster(high: number, low: number, { hasDataFile, hasExtendedL2 }: ClusterPlaces): boolean {
  if (((high & OFFSET_HIGH_MASK) | (low & OFFSET_LOW_MASK)) !== 0) return true;
  return hasDataFile && isCopiedEntry(high) && (hasExtendedL2 || !isZeroEntry(low));
}

/** The byte offset of compressed data; may exceed what a file can hold, and 2^53, in a damaged image. */
export function compressedOffset(high: number, low: number, clusterBits: number): number {
  const highBits = 62 - (clusterBits - 8) - 32;
  return (high & ((1 << highBits) - 1)) * TWO_TO_32 + low;
}

/** Bytes from the start of the compressed data to the end of its last sector: an upper bound of its length. */
export function compressedBytes(high: number, low: number, clusterBits: number): number {
  const highBits = 62 - (clusterBits - 8) - 32;
  const sectorCount = ((high & 0x3fff_ffff) >>> highBits) + 1;
  return sectorCount * COMPRESSED_SECTOR_BYTES - (low & (COMPRESSED_SECTOR_BYTES - 1));
}

/**
 * Writes the entry at `index` of an L1 table, or of an L2 table with entries of 64 bits: `offset` in the file, of something whose
 * refcount is exactly one.
 */
export function encodeCopiedEntry(table: Buffer, index: number, offset: number): void {
  table.writeUInt32BE((0x8000_0000 + Math.floor(offset / TWO_TO_32)) >>> 0, index * 8);
  table.writeUInt32BE(offset % TWO_TO_32, index * 8 + 4);
}

/** Writes the entry at `index` of such an L2 table for a cluster that reads as zeros and has no place in the file. */
export function encodeZeroEntry(table: Buffer, index: number): void {
  table.writeUInt32BE(0, index * 8);
  table.writeUInt32BE(1, index * 8 + 4);
}
