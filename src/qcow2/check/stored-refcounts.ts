/** The refcounts that the image stores: a table of offsets of refcount blocks. */

import { StoredRefcount } from '../stored-refcount.ts';
import {
  REFCOUNT_TABLE_ENTRY_BYTES as ENTRY_BYTES,
  REFCOUNT_TABLE_RESERVED_MASK,
  REFCOUNT_UNKNOWN,
  refcountAt,
  refcountBlockOffset,
} from '../wire/refcount-entries.ts';
import { READ_UNITS } from '../work-budget.ts';
import type { CheckedImage } from './checked-image.ts';
import { readZeroPadded } from './read-zero-padded.ts';

const CHUNK_BYTES = 64 * 1024;
/** For single refcounts, which only damaged entries ask for. */
const LOOKUP_CACHE_BYTES = 256 * 1024;
/** Two reads of a few KiB, if the cache does not help. */
const LOOKUP_UNITS = 4 * READ_UNITS;

export class StoredRefcounts {
  /** Clusters whose refcounts one block holds. */
  readonly clustersPerBlock: number;
  /** Entries of the refcount table: 1 Mi at most, as the header was checked. */
  readonly blockCount: number;
  readonly #image: CheckedImage;
  readonly #order: number;
  readonly #tableOffset: number;
  readonly #chunk = Buffer.alloc(CHUNK_BYTES);
  readonly #single: StoredRefcount;

  constructor(image: CheckedImage) {
    const { header, storage } = image.file;
    this.#image = image;
    this.#order = header.refcountOrder;
    this.#tableOffset = header.refcountTableOffset;
    this.#single = new StoredRefcount(storage, image.file, LOOKUP_CACHE_BYTES);
    this.clustersPerBlock = this.#single.clustersPerBlock;
    this.blockCount = this.#single.blockCount;
  }

  /**
   * Calls `visit` for each entry of the table that is not zero.
   * @throws Qcow2fsError IO.
   */
  forEachBlock(visit: (index: number, offset: number, hasReservedBits: boolean, entryOffset: number) => void): void {
    const { storage } = this.#image.file;
    const chunk = Buffer.alloc(CHUNK_BYTES);
    const tableBytes = Math.min(this.blockCount * ENTRY_BYTES, storage.sizeBytes - this.#tableOffset);
    for (let start = 0; start < tableBytes; start += CHUNK_BYTES) {
      const length = Math.min(CHUNK_BYTES, this.blockCount * ENTRY_BYTES - start);
      readZeroPadded(storage, chunk, length, this.#tableOffset + start);
      for (let at = 0; at < length; at += ENTRY_BYTES) {
        const high = chunk.readUInt32BE(at);
        const low = chunk.readUInt32BE(at + 4);
        if (high === 0 && low === 0) continue;
        const entryOffset = this.#tableOffset + start + at;
        visit(
          (start + at) / ENTRY_BYTES,
          refcountBlockOffset(high, low),
          (low & REFCOUNT_TABLE_RESERVED_MASK) !== 0,
          entryOffset,
        );
      }
    }
  }

  /**
   * Puts the refcounts of `count` clusters from `firstCluster` on into `into`; REFCOUNT_UNKNOWN for those of a block
   * that cannot be read, zero for those without a block.
   * @throws Qcow2fsError IO.
   */
  load(firstCluster: number, count: number, into: Uint32Array): void {
    into.fill(0, 0, count);
    for (let done = 0; done < count; ) {
      const cluster = firstCluster + done;
      const index = Math.floor(cluster / this.clustersPerBlock);
      const within = cluster - index * this.clustersPerBlock;
      const length = Math.min(count - done, this.clustersPerBlock - within);
      const offset = this.#single.blockOffset(index);
      if (offset % this.#image.clusterBytes !== 0) into.fill(REFCOUNT_UNKNOWN, done, done + length);
      else if (offset !== 0) {
        this.#image.budget.spend(READ_UNITS);
        this.#loadFromBlock(offset, within, length, into, done);
      }
      done += length;
    }
  }

  /**
   * The refcount of one cluster, also of one far past the end of the file.
   * @throws Qcow2fsError IO.
   */
  lookup(cluster: number): number {
    this.#image.budget.spend(LOOKUP_UNITS);
    return this.#single.of(cluster);
  }

  /** `first` is the index within the block, and a multiple of 8: windows begin at such clusters. */
  #loadFromBlock(offset: number, first: number, count: number, into: Uint32Array, target: number): void {
    const perChunk = (CHUNK_BYTES * 8) / 2 ** this.#order;
    for (let done = 0; done < count; done += perChunk) {
      const length = Math.min(perChunk, count - done);
      const start = offset + ((first + done) * 2 ** this.#order) / 8;
      readZeroPadded(this.#image.file.storage, this.#chunk, Math.ceil((length * 2 ** this.#order) / 8), start);
      for (let index = 0; index < length; index++) {
        into[target + done + index] = refcountAt(this.#chunk, index, this.#order);
      }
    }
  }
}
