/** The refcounts that an image stores, one at a time. */

import os from 'node:os';
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
/** What two or more tables of different ages refer to lies apart: as many pieces of 4 KiB are kept. */
const PIECE_COUNT = 64;
const MAX_PIECE_ENTRIES = 2048;
const IS_LITTLE_ENDIAN = os.endianness() === 'LE';

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
  /** Entries of the usual width, in pieces of blocks: which piece each place has, and its refcounts. */
  readonly #pieceEntries: number;
  readonly #pieceOf = new Float64Array(PIECE_COUNT).fill(UNREAD);
  readonly #pieces: Uint16Array;
  readonly #pieceBytes: Buffer;
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
    const isUsual = this.#order === USUAL_ORDER;
    this.#pieceEntries = Math.min(MAX_PIECE_ENTRIES, this.clustersPerBlock);
    this.#pieces = new Uint16Array(isUsual ? PIECE_COUNT * this.#pieceEntries : 0);
    this.#pieceBytes = Buffer.from(this.#pieces.buffer);
    const neededCount = Math.ceil(storage.sizeBytes / clusterBytes / this.clustersPerBlock);
    this.#blockOffsets = new Float64Array(Math.min(this.blockCount, neededCount)).fill(UNREAD);
  }

  /**
   * The refcount of a cluster of the file, also of one far past its end; zero without a block, REFCOUNT_UNKNOWN if the block
   * cannot be there.
   * @throws Qcow2fsError IO.
   */
  of(cluster: number): number {
    if (this.#pieces.length === 0) return this.#find(cluster);
    const entries = this.#pieceEntries;
    const piece = Math.floor(cluster / entries);
    const place = piece % PIECE_COUNT;
    if (this.#pieceOf[place] !== piece && !this.#loadPiece(piece, place)) return this.#find(cluster);
    return this.#pieces[place * entries + cluster - piece * entries] ?? 0;
  }

  /** False if there is no such piece. */
  #loadPiece(piece: number, place: number): boolean {
    const first = piece * this.#pieceEntries;
    const index = Math.floor(first / this.clustersPerBlock);
    const offset = this.blockOffset(index);
    if (offset === 0 || offset % this.#clusterBytes !== 0 || offset >= this.#storage.sizeBytes) return false;
    const bytes = this.#pieceBytes.subarray(place * this.#pieceEntries * 2, (place + 1) * this.#pieceEntries * 2);
    const position = offset + (first - index * this.clustersPerBlock) * 2;
    this.#pieceOf[place] = UNREAD;
    bytes.fill(0, this.#storage.readUpTo(bytes, 0, bytes.length, position));
    if (IS_LITTLE_ENDIAN) bytes.swap16();
    this.#pieceOf[place] = piece;
    return true;
  }

  #find(cluster: number): number {
    const index = Math.floor(cluster / this.clustersPerBlock);
    const offset = this.blockOffset(index);
    if (offset % this.#clusterBytes !== 0) return REFCOUNT_UNKNOWN;
    if (offset === 0 || offset >= this.#storage.sizeBytes) return 0;
    const within = cluster - index * this.clustersPerBlock;
    const perUnit = this.#entriesPerUnit;
    const at = this.#cache.locate(offset + Math.floor(within / perUnit) * UNIT_BYTES, UNIT_BYTES);
    if (at < 0) return 0;
    return refcountAt(this.#cache.pool.subarray(at, at + UNIT_BYTES), within % perUnit, this.#order);
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
    if (index >= this.blockCount) return 0;
    const position = this.#tableOffset + index * REFCOUNT_TABLE_ENTRY_BYTES;
    if (position >= this.#storage.sizeBytes) return 0;
    const at = this.#cache.locate(position, REFCOUNT_TABLE_ENTRY_BYTES);
    if (at < 0) return 0;
    const { pool } = this.#cache;
    return refcountBlockOffset(pool.readUInt32BE(at), pool.readUInt32BE(at + 4));
  }
}
