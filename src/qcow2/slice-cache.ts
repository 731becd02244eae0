/**
 * A bounded cache of table entries, in slices of at most 4 KiB.
 *
 * Whole L2 tables may have 2 MiB, of which a random reader needs 8 bytes: slices keep both the reading and the memory
 * small (QEMU has l2-cache-entry-size for the same reason). A slice never spans two clusters, so it holds parts of one
 * table only. Eviction is by the clock algorithm: one bit per slice instead of reordering a list at each hit.
 */

import type { MissingRanges } from '../storage/missing-ranges.ts';
import type { Storage } from '../storage/storage.ts';

const MAX_SLICE_BYTES = 4096;

export class SliceCache {
  /** All slices, one behind the other. Read entries from it at the index that `locate` returns. */
  readonly pool: Buffer;
  /** Bytes that can be read from `pool` at the index that `locate` returned last. */
  availableBytes = 0;
  readonly #storage: Storage;
  readonly #missing: MissingRanges | undefined;
  readonly #sliceBytes: number;
  readonly #slotCount: number;
  readonly #slotOfSlice = new Map<number, number>();
  readonly #sliceOfSlot: Float64Array;
  readonly #validBytes: Uint16Array;
  readonly #wasUsed: Uint8Array;
  #hand = 0;
  #filledCount = 0;
  #lastSlice = -1;
  #lastSlot = 0;

  /**
   * `capacityBytes` is a ceiling: memory is taken only as slices are read. With `missing`, entries past the end of the file
   * are zeros, as in QEMU.
   */
  constructor(storage: Storage, clusterBytes: number, capacityBytes: number, missing?: MissingRanges) {
    this.#storage = storage;
    this.#missing = missing;
    this.#sliceBytes = Math.min(MAX_SLICE_BYTES, clusterBytes);
    this.#slotCount = Math.max(2, Math.floor(capacityBytes / this.#sliceBytes));
    this.pool = Buffer.allocUnsafeSlow(this.#slotCount * this.#sliceBytes);
    this.#sliceOfSlot = new Float64Array(this.#slotCount);
    this.#validBytes = new Uint16Array(this.#slotCount);
    this.#wasUsed = new Uint8Array(this.#slotCount);
  }

  /**
   * Where in `pool` the `entryBytes` bytes at `position` of the file are, valid until the next call; or -1 when the file
   * ends before the end of the entry. `position` must be a multiple of `entryBytes`, which must be a power of two.
   * @throws Qcow2fsError IO.
   */
  locate(position: number, entryBytes: number): number {
    const slice = Math.floor(position / this.#sliceBytes);
    const slot = slice === this.#lastSlice ? this.#lastSlot : this.#slotFor(slice);
    const within = position - slice * this.#sliceBytes;
    this.availableBytes = (this.#validBytes[slot] ?? 0) - within;
    if (this.availableBytes < entryBytes) {
      if (this.#missing === undefined) return -1;
      this.#missing.add(this.#storage, position, entryBytes, 'a table entry');
      this.#fillWithZeros(slot);
      this.availableBytes = this.#sliceBytes - within;
    }
    return slot * this.#sliceBytes + within;
  }

  #slotFor(slice: number): number {
    let slot = this.#slotOfSlice.get(slice);
    if (slot === undefined) slot = this.#load(slice);
    this.#wasUsed[slot] = 1;
    this.#lastSlice = slice;
    this.#lastSlot = slot;
    return slot;
  }

  #load(slice: number): number {
    const slot = this.#takeSlot();
    const start = slot * this.#sliceBytes;
    this.#validBytes[slot] = this.#storage.readUpTo(this.pool, start, this.#sliceBytes, slice * this.#sliceBytes);
    this.#slotOfSlice.set(slice, slot);
    this.#sliceOfSlot[slot] = slice;
    return slot;
  }

  #fillWithZeros(slot: number): void {
    const start = slot * this.#sliceBytes;
    this.pool.fill(0, start + (this.#validBytes[slot] ?? 0), start + this.#sliceBytes);
    this.#validBytes[slot] = this.#sliceBytes;
  }

  /** An empty slot. If the read that is to fill it fails, it stays unnamed and is found again by the clock. */
  #takeSlot(): number {
    this.#lastSlice = -1;
    if (this.#filledCount < this.#slotCount) return this.#filledCount++;
    while (this.#wasUsed[this.#hand] === 1) {
      this.#wasUsed[this.#hand] = 0;
      this.#hand = (this.#hand + 1) % this.#slotCount;
    }
    const slot = this.#hand;
    this.#hand = (this.#hand + 1) % this.#slotCount;
    const evicted = this.#sliceOfSlot[slot];
    if (evicted !== undefined && this.#slotOfSlice.get(evicted) === slot) this.#slotOfSlice.delete(evicted);
    return slot;
  }
}
