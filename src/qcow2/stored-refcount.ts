/** The refcounts that an image stores, one at a time. */

import type { Storage } from '../storage/storage.ts';
import type { Qcow2Metadata } from './open-qcow2.ts';
import { SliceCache } from './slice-cache.ts';
import {
  clustersPerRefcountBlock,
  REFCOUNT_TABLE_ENTRY_BYTES,
  REFCOUNT_UNKNOWN,
  refcountAt,
  refcountBlockOffset,
} from './wire/refcount-entries.ts';

/** Blocks are looked at in units of 8 bytes, which hold a whole number of entries of any width. */
const UNIT_BYTES = 8;
/** Entries of 16 bits. */
const USUAL_ORDER = 4;
const UNREAD = -1;

export class StoredRefcount {
  /** Clusters whose refcounts one block holds. */
  readonly clustersPerBlock: number;
  /** Entries of the refcount table: 1 Mi at most, as the header was checked. */
  readonly blockCount: number;
  readonly #storage: Storage;
  readonly #clusterBytes: number;
  readonly #order: number;
  readonly #entriesPerUnit: number;
  readonly #tableOffset: number;
  readonly #cache: SliceCache;
  /** Clusters of the piece of a block that was looked at last, and where the refcount of the first one is in the cache. */
  #firstCluster = 0;
  #endCluster = 0;
  #firstAt = 0;
  /** Of the refcount blocks that were asked for; UNREAD for all others. */
  readonly #blockOffsets: Float64Array;

  /** `cacheBytes`: ceiling for what is kept of the table and the blocks. */
  constructor(storage: Storage, { header, clusterBytes }: Qcow2Metadata, cacheBytes: number) {
    this.#storage = storage;
    this.#clusterBytes = clusterBytes;
    this.#order = header.refcountOrder;
    this.#entriesPerUnit = (UNIT_BYTES * 8) / 2 ** header.refcountOrder;
    this.#tableOffset = header.refcountTableOffset;
    this.clustersPerBlock = clustersPerRefcountBlock(clusterBytes, header.refcountOrder);
    this.blockCount = (header.refcountTableClusters * clusterBytes) / REFCOUNT_TABLE_ENTRY_BYTES;
    this.#cache = new SliceCache(storage, clusterBytes, cacheBytes);
    const neededCount = Math.ceil(storage.sizeBytes / clusterBytes / this.clustersPerBlock);
    this.#blockOffsets = new Float64Array(Math.min(this.blockCount, neededCount)).fill(UNREAD);
  }

  /**
   * The refcount of a cluster of the file, also of one far past its end; zero without a block, REFCOUNT_UNKNOWN if the block
   * cannot be there.
   * @throws Qcow2fsError IO.
   */
  of(cluster: number): number {
    if (cluster < this.#firstCluster || cluster >= this.#endCluster) return this.#find(cluster);
    // Clusters are mostly asked for one behind the other, and entries mostly have 16 bits.
    const at = this.#firstAt + (cluster - this.#firstCluster) * 2;
    return ((this.#cache.pool[at] ?? 0) << 8) | (this.#cache.pool[at + 1] ?? 0);
  }

  #find(cluster: number): number {
    this.#endCluster = 0;
    const index = Math.floor(cluster / this.clustersPerBlock);
    const offset = this.blockOffset(index);
    if (offset % this.#clusterBytes !== 0) return REFCOUNT_UNKNOWN;
    if (offset === 0 || offset >= this.#storage.sizeBytes) return 0;
    const within = cluster - index * this.clustersPerBlock;
    const perUnit = this.#entriesPerUnit;
    const at = this.#cache.locate(offset + Math.floor(within / perUnit) * UNIT_BYTES, UNIT_BYTES);
    if (at < 0) return 0;
    const { pool } = this.#cache;
    if (this.#order === USUAL_ORDER) {
      const first = within % perUnit;
      this.#firstCluster = cluster - first;
      this.#endCluster = this.#firstCluster + Math.floor(this.#cache.availableBytes / 2);
      this.#firstAt = at;
      return pool.readUInt16BE(at + first * 2);
    }
    return refcountAt(pool.subarray(at, at + UNIT_BYTES), within % perUnit, this.#order);
  }

  /**
   * The offset of the refcount block with this place in the table; 0 if there is none.
   * @throws Qcow2fsError IO.
   */
  blockOffset(index: number): number {
    const known = this.#blockOffsets[index] ?? UNREAD;
    if (known !== UNREAD) return known;
    const offset = this.#readBlockOffset(index);
    if (index < this.#blockOffsets.length) this.#blockOffsets[index] = offset;
    return offset;
  }

  #readBlockOffset(index: number): number {
    // What was located before may be elsewhere in the cache afterwards.
    this.#endCluster = 0;
    if (index >= this.blockCount) return 0;
    const position = this.#tableOffset + index * REFCOUNT_TABLE_ENTRY_BYTES;
    if (position >= this.#storage.sizeBytes) return 0;
    const at = this.#cache.locate(position, REFCOUNT_TABLE_ENTRY_BYTES);
    if (at < 0) return 0;
    const { pool } = this.#cache;
    return refcountBlockOffset(pool.readUInt32BE(at), pool.readUInt32BE(at + 4));
  }
}
