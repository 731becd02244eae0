/**
 * Look up, then read: turns a guest offset into what the tables of one layer say about it. A snapshot is the same
 * map with another L1 table.
 */

import { Qcow2fsError } from '../errors.ts';
import { pastEnd } from '../storage/storage.ts';
import { SUBCLUSTERS_PER_CLUSTER } from './limits.ts';
import type { Qcow2File, Qcow2Metadata } from './open-qcow2.ts';
import type { SliceCache } from './slice-cache.ts';
import { findSubclusterRun, type SubclusterRun } from './subclusters.ts';
import {
  compressedBytes,
  compressedOffset,
  entryOffset,
  hasCluster,
  isCompressedEntry,
  isCopiedEntry,
  isZeroEntry,
} from './wire/table-entries.ts';

/** What one layer says about a range; `unallocated` leaves it to the backing file. */
export type MappingKind = 'unallocated' | 'zero' | 'normal' | 'compressed' | 'damaged';

/** Filled in by `ClusterMap.lookup`, so that a lookup allocates nothing. */
export interface Mapping {
  kind: MappingKind;
  lengthBytes: number;
  /** normal: where the first byte is in the file. compressed: where the compressed data of the cluster starts. */
  hostOffset: number;
  /** compressed: upper bound of the length of the compressed data. */
  storedBytes: number;
  /** damaged: makes the error that a read of the range must throw. Only then: a walk over damage would make millions. */
  problem: (() => Qcow2fsError) | undefined;
}

export function createMapping(): Mapping {
  return { kind: 'unallocated', lengthBytes: 0, hostOffset: -1, storedBytes: 0, problem: undefined };
}

const MAX_TABLES_AT_ONCE = 256;

const STANDARD_ENTRY_BYTES = 8;
const EXTENDED_ENTRY_BYTES = 16;

export class ClusterMap {
  /** Guest bytes that one L2 table maps. */
  readonly tableCoverageBytes: number;
  /**
   * Guest bytes that the L1 table maps. QEMU treats what lies behind as unallocated, so the L1 table of a snapshot may be
   * shorter than its disk.
   */
  readonly mappedBytes: number;
  readonly #file: Qcow2File;
  readonly #slices: SliceCache;
  readonly #l1Offset: number;
  readonly #clusterBytes: number;
  readonly #clusterBits: number;
  readonly #subclusterBytes: number;
  readonly #entryBytes: number;
  readonly #nextTable = createMapping();
  readonly #nextCluster = createMapping();
  readonly #run: SubclusterRun = { kind: 'unallocated', count: 0 };
  #lastL1Index = -1;
  #lastL2Offset = 0;

  constructor(file: Qcow2File, slices: SliceCache, l1Offset: number, l1Size: number) {
    this.#file = file;
    this.#slices = slices;
    this.#l1Offset = l1Offset;
    this.#clusterBytes = file.clusterBytes;
    this.#clusterBits = file.header.clusterBits;
    this.#subclusterBytes = file.hasExtendedL2 ? file.clusterBytes / SUBCLUSTERS_PER_CLUSTER : file.clusterBytes;
    this.#entryBytes = entryBytes(file);
    this.tableCoverageBytes = tableCoverageBytes(file);
    this.mappedBytes = l1Size * this.tableCoverageBytes;
  }

  /**
   * Says what is at guest offset `offset` and how far that holds, at most `maxLengthBytes`. Runs of clusters that are
   * neighbours in the file come as one `normal` mapping, across L2 tables too.
   * @throws Qcow2fsError IO only; damage is the kind `damaged`.
   */
  lookup(offset: number, maxLengthBytes: number, into: Mapping): void {
    this.#lookupInTable(offset, maxLengthBytes, into);
    // A run can only go on in the next table if it reached the end of its own.
    // The count is bounded so that a walk over a crafted image comes back to whoever may end it.
    for (let tables = 1; tables < MAX_TABLES_AT_ONCE; tables++) {
      if (into.lengthBytes >= maxLengthBytes || (offset + into.lengthBytes) % this.tableCoverageBytes !== 0) return;
      const next = this.#nextTable;
      this.#lookupInTable(offset + into.lengthBytes, maxLengthBytes - into.lengthBytes, next);
      if (!continues(into, next)) return;
      into.lengthBytes += next.lengthBytes;
    }
  }

  /**
   * The file offset of the L2 table for `offset`, which is below `mappedBytes`; 0 if there is none, -1 if the tables do
   * not tell.
   * @throws Qcow2fsError IO.
   */
  l2TableOffset(offset: number): number {
    const l1Index = Math.floor(offset / this.tableCoverageBytes);
    if (l1Index === this.#lastL1Index) return this.#lastL2Offset;
    const at = this.#slices.locate(this.#l1Offset + l1Index * 8, 8);
    if (at < 0) return -1;
    const { pool } = this.#slices;
    this.#lastL2Offset = entryOffset(pool.readUInt32BE(at), pool.readUInt32BE(at + 4));
    this.#lastL1Index = l1Index;
    return this.#lastL2Offset;
  }

  /** The place of a cluster in the file, though it may read as zeros; -1 without one. Not for compressed ones. @throws Qcow2fsError IO. */
  placeOf(offset: number): number {
    const l2Offset = offset < this.mappedBytes ? this.l2TableOffset(offset) : 0;
    if (l2Offset <= 0 || l2Offset % this.#clusterBytes !== 0) return -1;
    const index = Math.floor((offset % this.tableCoverageBytes) / this.#clusterBytes);
    const at = this.#slices.locate(l2Offset + index * this.#entryBytes, this.#entryBytes);
    if (at < 0) return -1;
    const { pool } = this.#slices;
    const high = pool.readUInt32BE(at);
    const low = pool.readUInt32BE(at + 4);
    return hasCluster(high, low, this.#file) ? entryOffset(high, low) : -1;
  }

  /** As `lookup`, but ends at the end of the L2 table. */
  #lookupInTable(offset: number, maxLengthBytes: number, into: Mapping): void {
    if (offset >= this.mappedBytes) {
      setMapping(into, 'unallocated', maxLengthBytes, -1);
      return;
    }
    const withinTable = offset % this.tableCoverageBytes;
    const maxLength = Math.min(maxLengthBytes, this.tableCoverageBytes - withinTable);
    const l2Offset = this.l2TableOffset(offset);
    if (l2Offset === 0) {
      setMapping(into, 'unallocated', maxLength, -1);
    } else if (l2Offset < 0) {
      const position = this.#l1Offset + Math.floor(offset / this.tableCoverageBytes) * 8;
      setDamaged(into, maxLength, () => pastEnd(this.#file.storage, position, 8, 'an L1 table entry'));
    } else if (l2Offset % this.#clusterBytes !== 0) {
      setDamaged(into, maxLength, () => this.#damage(offset, `L2 table offset ${l2Offset} is not cluster aligned`));
    } else if (this.#entryBytes === STANDARD_ENTRY_BYTES) {
      this.#scanStandard(l2Offset, offset, withinTable, maxLength, into);
    } else {
      this.#scanExtended(l2Offset, offset, withinTable, maxLength, into);
    }
  }

  #scanStandard(l2Offset: number, offset: number, withinTable: number, maxLength: number, into: Mapping): void {
    const clusterBytes = this.#clusterBytes;
    const { pool } = this.#slices;
    const withinCluster = withinTable % clusterBytes;
    let position = l2Offset + ((withinTable - withinCluster) / clusterBytes) * STANDARD_ENTRY_BYTES;
    let at = this.#slices.locate(position, STANDARD_ENTRY_BYTES);
    const restOfCluster = Math.min(maxLength, clusterBytes - withinCluster);
    if (at < 0) {
      const missing = position;
      setDamaged(into, restOfCluster, () => pastEnd(this.#file.storage, missing, 8, 'an L2 table entry'));
      return;
    }
    this.#decodeStandard(pool.readUInt32BE(at), pool.readUInt32BE(at + 4), offset, into);
    into.lengthBytes = restOfCluster;
    if (into.kind === 'compressed' || into.kind === 'damaged') return;
    const isNormal = into.kind === 'normal';
    const hostBase = into.hostOffset;
    if (isNormal) into.hostOffset += withinCluster;
    const wantsZero = into.kind === 'zero';
    let length = clusterBytes - withinCluster;
    let available = this.#slices.availableBytes;
    for (let count = 1; length < maxLength; count++) {
      position += STANDARD_ENTRY_BYTES;
      at += STANDARD_ENTRY_BYTES;
      available -= STANDARD_ENTRY_BYTES;
      if (available < STANDARD_ENTRY_BYTES) {
        at = this.#slices.locate(position, STANDARD_ENTRY_BYTES);
        if (at < 0) break;
        available = this.#slices.availableBytes;
      }
      const high = pool.readUInt32BE(at);
      const low = pool.readUInt32BE(at + 4);
      if (isCompressedEntry(high) || isZeroEntry(low) !== wantsZero) break;
      if (!wantsZero && entryOffset(high, low) !== (isNormal ? hostBase + count * clusterBytes : 0)) break;
      if (!wantsZero && !isNormal && this.#isAllocated(0, high)) break;
      length += clusterBytes;
    }
    into.lengthBytes = Math.min(length, maxLength);
  }

  /** Kind and host offset of the cluster that an entry without subclusters describes. */
  #decodeStandard(high: number, low: number, offset: number, into: Mapping): void {
    if (isCompressedEntry(high)) {
      this.#decodeCompressed(high, low, offset, into);
      return;
    }
    const hostOffset = entryOffset(high, low);
    if (isZeroEntry(low)) {
      // Version 2 does not know the flag; QEMU answers -EIO (qcow2_get_host_offset).
      if (this.#file.header.version >= 3) setMapping(into, 'zero', 0, -1);
      else setDamaged(into, 0, () => this.#damage(offset, 'zero flag set in an L2 entry of a version 2 image'));
    } else {
      this.#decodeHostOffset(hostOffset, high, offset, into);
    }
  }

  #scanExtended(l2Offset: number, offset: number, withinTable: number, maxLength: number, into: Mapping): void {
    const clusterBytes = this.#clusterBytes;
    const withinCluster = withinTable % clusterBytes;
    const withinSubcluster = withinCluster % this.#subclusterBytes;
    let position = l2Offset + ((withinTable - withinCluster) / clusterBytes) * EXTENDED_ENTRY_BYTES;
    const subcluster = (withinCluster - withinSubcluster) / this.#subclusterBytes;
    this.#decodeExtended(position, offset, subcluster, into);
    if (into.kind === 'compressed' || into.kind === 'damaged') {
      into.lengthBytes = Math.min(maxLength, clusterBytes - withinCluster);
      return;
    }
    if (into.kind === 'normal') into.hostOffset += withinSubcluster;
    into.lengthBytes -= withinSubcluster;
    const next = this.#nextCluster;
    while (into.lengthBytes < maxLength && (withinCluster + into.lengthBytes) % clusterBytes === 0) {
      position += EXTENDED_ENTRY_BYTES;
      this.#decodeExtended(position, offset + into.lengthBytes, 0, next);
      if (!continues(into, next)) break;
      into.lengthBytes += next.lengthBytes;
    }
    into.lengthBytes = Math.min(into.lengthBytes, maxLength);
  }

  /**
   * Kind, host offset and length of the run of like subclusters that starts at `subcluster` of the entry at
   * `position`, to the end of its cluster at most.
   */
  #decodeExtended(position: number, offset: number, subcluster: number, into: Mapping): void {
    const at = this.#slices.locate(position, EXTENDED_ENTRY_BYTES);
    if (at < 0) {
      setDamaged(into, 0, () => pastEnd(this.#file.storage, position, EXTENDED_ENTRY_BYTES, 'an L2 table entry'));
      return;
    }
    const { pool } = this.#slices;
    const high = pool.readUInt32BE(at);
    const low = pool.readUInt32BE(at + 4);
    if (isCompressedEntry(high)) {
      this.#decodeCompressed(high, low, offset, into);
      return;
    }
    const hostOffset = entryOffset(high, low);
    this.#decodeHostOffset(hostOffset, high, offset, into);
    if (into.kind === 'damaged') return;
    const hasCluster = into.kind === 'normal';
    const run = this.#run;
    findSubclusterRun(pool.readUInt32BE(at + 8), pool.readUInt32BE(at + 12), hasCluster, subcluster, run);
    if (run.kind === 'invalid') {
      setDamaged(into, 0, () => this.#damage(offset, 'the subcluster bitmap of an L2 entry contradicts itself'));
      return;
    }
    const host = run.kind === 'normal' ? hostOffset + subcluster * this.#subclusterBytes : -1;
    setMapping(into, run.kind, run.count * this.#subclusterBytes, host);
  }

  #decodeHostOffset(hostOffset: number, high: number, offset: number, into: Mapping): void {
    if (!this.#isAllocated(hostOffset, high)) {
      setMapping(into, 'unallocated', 0, -1);
    } else if (hostOffset % this.#clusterBytes !== 0) {
      setDamaged(into, 0, () => this.#damage(offset, `cluster offset ${hostOffset} is not cluster aligned`));
    } else if (this.#file.hasDataFile && hostOffset !== offset - (offset % this.#clusterBytes)) {
      const what = `cluster offset ${hostOffset} in the external data file is not the one in the guest`;
      setDamaged(into, 0, () => this.#damage(offset, what));
    } else {
      setMapping(into, 'normal', 0, hostOffset);
    }
  }

  /** `hasCluster`, of an entry that does not read as zeros, or has subclusters. */
  #isAllocated(hostOffset: number, high: number): boolean {
    return hostOffset !== 0 || (this.#file.hasDataFile && isCopiedEntry(high));
  }

  #decodeCompressed(high: number, low: number, offset: number, into: Mapping): void {
    if (this.#file.hasDataFile) {
      setDamaged(into, 0, () => this.#damage(offset, 'compressed cluster in an image with an external data file'));
      return;
    }
    setMapping(into, 'compressed', 0, compressedOffset(high, low, this.#clusterBits));
    into.storedBytes = compressedBytes(high, low, this.#clusterBits);
  }

  #damage(offset: number, what: string): Qcow2fsError {
    const { name } = this.#file.storage;
    return new Qcow2fsError('DAMAGED', `${name}: at guest offset ${offset}: ${what}`, { data: { file: name, offset } });
  }
}

/** Guest bytes that one L2 table maps. */
export function tableCoverageBytes(file: Qcow2Metadata): number {
  return (file.clusterBytes / entryBytes(file)) * file.clusterBytes;
}

function entryBytes(file: Qcow2Metadata): number {
  return file.hasExtendedL2 ? EXTENDED_ENTRY_BYTES : STANDARD_ENTRY_BYTES;
}

function setMapping(into: Mapping, kind: MappingKind, lengthBytes: number, hostOffset: number): void {
  into.kind = kind;
  into.lengthBytes = lengthBytes;
  into.hostOffset = hostOffset;
  into.problem = undefined;
}

function setDamaged(into: Mapping, lengthBytes: number, problem: () => Qcow2fsError): void {
  setMapping(into, 'damaged', lengthBytes, -1);
  into.problem = problem;
}

/** True if `next`, which follows `first`, can be told together with it. */
function continues(first: Mapping, next: Mapping): boolean {
  if (first.kind !== next.kind) return false;
  if (first.kind === 'normal') return next.hostOffset === first.hostOffset + first.lengthBytes;
  return first.kind === 'unallocated' || first.kind === 'zero';
}
