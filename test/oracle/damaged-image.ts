/** Changes metadata of a real image in place, and takes the changes back. Reads qcow2 with code of its own. */

import fs from 'node:fs';
import type { Random } from './random.ts';

const OFFSET_MASK = 0x00ff_ffff_ffff_fe00n;
export const COPIED = 1n << 63n;
export const COMPRESSED = 1n << 62n;

/** A table entry: where it is, and what it holds. */
export interface Entry {
  readonly position: number;
  readonly value: bigint;
}

export class DamagedImage {
  readonly path: string;
  readonly clusterBytes: number;
  readonly refcountBits: number;
  readonly version: number;
  readonly #fd: number;
  readonly #sizeBytes: number;
  #undo: { readonly position: number; readonly bytes: Buffer }[] = [];

  constructor(path: string) {
    this.path = path;
    this.#fd = fs.openSync(path, 'r+');
    this.#sizeBytes = fs.fstatSync(this.#fd).size;
    this.version = this.u32(4);
    this.clusterBytes = 2 ** this.u32(20);
    this.refcountBits = this.version === 2 ? 16 : 2 ** this.u32(96);
  }

  close(): void {
    fs.closeSync(this.#fd);
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  get clusterCount(): number {
    return Math.ceil(this.#sizeBytes / this.clusterBytes);
  }

  get entryBytes(): number {
    return this.version === 3 && (this.u64(72) & 16n) !== 0n ? 16 : 8;
  }

  /** Takes all changes back. */
  restore(): void {
    for (const { bytes, position } of this.#undo.reverse()) fs.writeSync(this.#fd, bytes, 0, bytes.length, position);
    fs.ftruncateSync(this.#fd, this.#sizeBytes);
    this.#undo = [];
  }

  write(position: number, bytes: Buffer): void {
    this.#undo.push({ position, bytes: this.read(position, bytes.length) });
    fs.writeSync(this.#fd, bytes, 0, bytes.length, position);
  }

  writeU64(position: number, value: bigint): void {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64BE(BigInt.asUintN(64, value));
    this.write(position, bytes);
  }

  writeU32(position: number, value: number): void {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(value);
    this.write(position, bytes);
  }

  /** Cuts the file off. */
  truncate(sizeBytes: number): void {
    this.#undo.push({ position: sizeBytes, bytes: this.read(sizeBytes, this.#sizeBytes - sizeBytes) });
    fs.ftruncateSync(this.#fd, sizeBytes);
  }

  u32(position: number): number {
    return this.read(position, 4).readUInt32BE(0);
  }

  u64(position: number): bigint {
    return this.read(position, 8).readBigUInt64BE(0);
  }

  read(position: number, length: number): Buffer {
    const bytes = Buffer.alloc(length);
    fs.readSync(this.#fd, bytes, 0, length, position);
    return bytes;
  }

  /** Entries of a table that are not zero. */
  entries(position: number, count: number, entryBytes = 8): Entry[] {
    const bytes = this.read(position, count * entryBytes);
    return Array.from({ length: count }, (_, index) => ({
      position: position + index * entryBytes,
      value: bytes.readBigUInt64BE(index * entryBytes),
    })).filter(({ value }) => value !== 0n);
  }

  get l1Entries(): Entry[] {
    return this.entries(Number(this.u64(40)), this.u32(36));
  }

  /** Of the tables of the current state. */
  get l2Entries(): Entry[] {
    const count = this.clusterBytes / this.entryBytes;
    return this.l1Entries.flatMap(({ value }) => this.entries(offsetOf(value), count, this.entryBytes));
  }

  /** Those with a cluster of their own. */
  get dataEntries(): Entry[] {
    return this.l2Entries.filter(({ value }) => (value & COMPRESSED) === 0n && offsetOf(value) !== 0);
  }

  get refcountTableEntries(): Entry[] {
    return this.entries(Number(this.u64(48)), (this.u32(56) * this.clusterBytes) / 8);
  }

  get refcountBlockOffsets(): number[] {
    return this.refcountTableEntries.map(({ value }) => offsetOf(value));
  }

  /** Clusters whose refcount is stored, with the refcount. */
  refcountOf(cluster: number): bigint {
    const place = this.#placeOfRefcount(cluster);
    if (place === undefined) return 0n;
    const { bits, bytes, shift } = place;
    return (bytes >> shift) & ((1n << bits) - 1n);
  }

  setRefcount(cluster: number, refcount: bigint): void {
    const place = this.#placeOfRefcount(cluster);
    if (place === undefined) throw new Error(`no refcount block for cluster ${cluster}`);
    const { bits, bytes, position, shift } = place;
    const mask = ((1n << bits) - 1n) << shift;
    this.writeU64(position, (bytes & ~mask) | (refcount << shift));
  }

  /** Clusters with a refcount of at least `minimum`. */
  countedClusters(minimum: bigint): number[] {
    const { clusterBytes, clusterCount, refcountBits } = this;
    const perBlock = (clusterBytes * 8) / refcountBits;
    const table = Number(this.u64(48));
    const mask = (1n << BigInt(refcountBits)) - 1n;
    const counted: number[] = [];
    for (let first = 0; first < clusterCount; first += perBlock) {
      const block = offsetOf(this.u64(table + (first / perBlock) * 8));
      if (block === 0) continue;
      // Whole blocks: each refcount by itself would be thousands of reads.
      const bytes = this.read(block, clusterBytes);
      for (let cluster = first; cluster < Math.min(clusterCount, first + perBlock); cluster++) {
        const { at, shift } = placeInBlock(cluster - first, refcountBits);
        if (((bytes.readBigUInt64BE(at) >> shift) & mask) >= minimum) counted.push(cluster);
      }
    }
    return counted;
  }

  /** Some place in a random table: an L1, L2 or refcount table or block, or the snapshot table. */
  randomMetadataPosition(random: Random): number {
    const tables = [
      Number(this.u64(40)),
      Number(this.u64(48)),
      ...(this.u32(60) > 0 ? [Number(this.u64(64))] : []),
      random.pick(this.refcountBlockOffsets),
      ...(this.l1Entries.length > 0 ? [offsetOf(random.pick(this.l1Entries).value)] : []),
    ];
    // The beginning of a table is in use; its end is seldom.
    return Math.min(this.sizeBytes - 1, random.pick(tables) + random.length(this.clusterBytes) - 1);
  }

  #placeOfRefcount(cluster: number) {
    const bits = this.refcountBits;
    const perBlock = (this.clusterBytes * 8) / bits;
    const block = offsetOf(this.u64(Number(this.u64(48)) + Math.floor(cluster / perBlock) * 8));
    if (block === 0) return undefined;
    const { at, shift } = placeInBlock(cluster % perBlock, bits);
    return { position: block + at, bits: BigInt(bits), shift, bytes: this.u64(block + at) };
  }
}

/** Where a refcount of a block is, in units of 8 bytes, in which a whole number of refcounts of any width lies. */
function placeInBlock(index: number, bits: number): { at: number; shift: bigint } {
  const perUnit = 64 / bits;
  const within = index % perUnit;
  // Bytes are in order; bits within a byte begin at the least significant one.
  const shift =
    bits < 8 ? Math.floor(within / (8 / bits)) * -8 + 56 + (within % (8 / bits)) * bits : 64 - bits * (within + 1);
  return { at: Math.floor(index / perUnit) * 8, shift: BigInt(shift) };
}

export function offsetOf(entry: bigint): number {
  return Number(entry & OFFSET_MASK);
}

/** The entry with another offset. */
export function withOffset(entry: bigint, offset: number): bigint {
  return (entry & ~OFFSET_MASK) | (BigInt(offset) & OFFSET_MASK);
}
