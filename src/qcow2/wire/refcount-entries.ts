/**
 * Entries of the refcount table, which are offsets of refcount blocks, and of such blocks, which are 1 to 64 bits wide
 * (docs/interop/qcow2.txt, "Host cluster management").
 */

/** What stands for a refcount that cannot be read. */
export const REFCOUNT_UNKNOWN = 0xffff_ffff;
/** Larger refcounts count as this one: no file holds as many references. */
export const REFCOUNT_CEILING = 0xffff_fffe;

export const REFCOUNT_TABLE_ENTRY_BYTES = 8;
/** Bits 0-8 of an entry of the refcount table. */
export const REFCOUNT_TABLE_RESERVED_MASK = 0x1ff;

/** Bits 9-63 of an entry of the refcount table: not exact above 2^53, where no file reaches. */
export function refcountBlockOffset(high: number, low: number): number {
  return high * 0x1_0000_0000 + (low - (low & REFCOUNT_TABLE_RESERVED_MASK));
}

/** Clusters whose refcounts one block holds. */
export function clustersPerRefcountBlock(clusterBytes: number, refcountOrder: number): number {
  return (clusterBytes * 8) / 2 ** refcountOrder;
}

/** The most that an entry can hold, as far as this check counts. */
export function maxRefcount(refcountOrder: number): number {
  return Math.min(REFCOUNT_CEILING, 2 ** (2 ** refcountOrder) - 1);
}

/**
 * The entry at `index`. Entries are big-endian; those narrower than a byte begin at its least significant bit.
 */
export function refcountAt(block: Buffer, index: number, refcountOrder: number): number {
  switch (refcountOrder) {
    case 3:
      return block.readUInt8(index);
    case 4:
      return block.readUInt16BE(index * 2);
    case 5:
      return Math.min(REFCOUNT_CEILING, block.readUInt32BE(index * 4));
    case 6:
      return block.readUInt32BE(index * 8) !== 0
        ? REFCOUNT_CEILING
        : Math.min(REFCOUNT_CEILING, block.readUInt32BE(index * 8 + 4));
    default: {
      const bits = 1 << refcountOrder;
      const perByte = 8 >> refcountOrder;
      return (block.readUInt8(Math.floor(index / perByte)) >> ((index % perByte) * bits)) & ((1 << bits) - 1);
    }
  }
}

/** Makes the first `count` entries of a block 1 and the others 0; entries are 16 bits wide. */
export function encodeOnes(block: Buffer, count: number): void {
  block.fill(0);
  for (let index = 0; index < count; index++) block.writeUInt8(1, index * 2 + 1);
}
