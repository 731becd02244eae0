/** Counts what the entries of an L2 table refer to, and checks the entries themselves. */

import { REFCOUNT_UNKNOWN } from '../wire/refcount-entries.ts';
import {
  compressedBytes,
  compressedOffset,
  entryOffset,
  hasCluster,
  hasReservedL2Bits,
  isCompressedEntry,
  isCopiedEntry,
  isZeroEntry,
} from '../wire/table-entries.ts';
import { READ_UNITS } from '../work-budget.ts';
import type { CheckedImage } from './checked-image.ts';
import type { ProblemKind } from './problem-log.ts';
import { readZeroPadded } from './read-zero-padded.ts';
import { CLUSTER_USES, type ReferenceWindow } from './reference-window.ts';
import type { StoredRefcounts } from './stored-refcounts.ts';

/**
 * How much more a table costs that is not cluster aligned. Such tables may lie over one another, with a reference in each
 * entry of each: aligned ones have no more references than the file has room for.
 */
const UNALIGNED_FACTOR = 4;

/** What the current state maps. */
export interface AllocationCounts {
  allocatedClusters: number;
  compressedClusters: number;
  /** Clusters that do not follow, in the file, the one before them in their table; all compressed ones count. */
  fragmentedClusters: number;
}

export class L2Walk {
  readonly counts: AllocationCounts = { allocatedClusters: 0, compressedClusters: 0, fragmentedClusters: 0 };
  readonly #image: CheckedImage;
  readonly #window: ReferenceWindow;
  readonly #stored: StoredRefcounts;
  readonly #table: Buffer;
  readonly #words: Int32Array;
  readonly #entryBytes: number;
  /** The table that is walked: its place, its references, and those of them from the current state. */
  #offset = 0;
  #times = 0;
  #activeTimes = 0;
  #nextContiguousOffset = 0;

  constructor(image: CheckedImage, window: ReferenceWindow, stored: StoredRefcounts) {
    this.#image = image;
    this.#window = window;
    this.#stored = stored;
    this.#words = new Int32Array(image.clusterBytes / 4);
    this.#table = Buffer.from(this.#words.buffer);
    this.#entryBytes = image.file.hasExtendedL2 ? 16 : 8;
  }

  /**
   * Walks the table at `offset`, to which there are `times` references, `activeTimes` of them from the current state: each
   * is one more reference to all that the table maps. Does nothing once the budget is spent.
   * @throws Qcow2fsError IO.
   */
  walk(offset: number, times: number, activeTimes: number): void {
    const { budget, clusterBytes, file } = this.#image;
    const { storage } = file;
    if (offset >= storage.sizeBytes) return;
    if (!budget.spend(READ_UNITS + clusterBytes * (offset % clusterBytes === 0 ? 1 : UNALIGNED_FACTOR))) return;
    this.#offset = offset;
    this.#times = times;
    this.#activeTimes = activeTimes;
    this.#nextContiguousOffset = 0;
    const table = this.#table;
    readZeroPadded(storage, table, table.length, offset);
    const words = this.#words;
    const isExtended = this.#entryBytes === 16;
    for (let at = 0; at < table.length; at += this.#entryBytes) {
      // Most entries of most tables are zero, in any byte order.
      if (words[at / 4] === 0 && words[at / 4 + 1] === 0 && !isExtended) continue;
      const high = table.readUInt32BE(at);
      const low = table.readUInt32BE(at + 4);
      const zeroBits = isExtended ? table.readUInt32BE(at + 8) : 0;
      const allocationBits = isExtended ? table.readUInt32BE(at + 12) : 0;
      if ((high | low | allocationBits) === 0) continue;
      if (isCompressedEntry(high)) this.#countCompressed(at, high, low, (zeroBits | allocationBits) !== 0);
      else this.#countStandard(at, high, low, zeroBits, allocationBits);
    }
  }

  #countCompressed(at: number, high: number, low: number, hasBitmap: boolean): void {
    const { file, hasDataFile } = this.#image;
    if (isCopiedEntry(high)) {
      this.#tell('invalid-entry', at, () => 'a compressed cluster has the flag "refcount is exactly one"');
    }
    if (hasDataFile) {
      this.#tell('invalid-entry', at, () => 'a compressed cluster in an image with a data file');
      return;
    }
    if (hasBitmap) {
      this.#tell('invalid-entry', at, () => 'a compressed cluster has a subcluster bitmap');
      return;
    }
    const { clusterBits } = file.header;
    const offset = compressedOffset(high, low, clusterBits);
    this.#window.add(offset, compressedBytes(high, low, clusterBits), this.#times, CLUSTER_USES.data);
    if (!this.#window.isFirstPass) return;
    this.counts.allocatedClusters += this.#activeTimes;
    this.counts.compressedClusters += this.#activeTimes;
    this.counts.fragmentedClusters += this.#activeTimes;
  }

  #countStandard(at: number, high: number, low: number, zeroBits: number, allocationBits: number): void {
    const { clusterBytes, file, hasDataFile } = this.#image;
    if (hasReservedL2Bits(high, low)) this.#tell('reserved-bits', at, () => 'reserved bits of an L2 entry are set');
    if (!file.hasExtendedL2 && isZeroEntry(low) && file.header.version < 3) {
      this.#tell('zero-flag', at, () => 'the zero flag is set in an image of version 2');
    }
    const offset = entryOffset(high, low);
    if (!hasCluster(high, low, file)) {
      if (allocationBits !== 0) {
        this.#tell('invalid-entry', at, () => 'subclusters are allocated, but the entry has no cluster');
      }
      return;
    }
    if ((zeroBits & allocationBits) !== 0) {
      this.#tell('invalid-entry', at, () => 'a subcluster is both allocated and zero');
    }
    if (offset % clusterBytes !== 0) {
      this.#tell('unaligned', at, () => `the cluster offset ${offset} of an L2 entry is not cluster aligned`);
    }
    if (!hasDataFile) this.#window.add(offset, clusterBytes, this.#times, CLUSTER_USES.data);
    if (this.#activeTimes > 0) this.#countActive(at, high, offset);
  }

  #countActive(at: number, high: number, offset: number): void {
    if (this.#window.isFirstPass) {
      this.counts.allocatedClusters += this.#activeTimes;
      if (this.#nextContiguousOffset !== 0 && offset !== this.#nextContiguousOffset) {
        this.counts.fragmentedClusters += this.#activeTimes;
      }
      this.#nextContiguousOffset = offset + this.#image.clusterBytes;
    }
    // An L1 entry with flags but no offset makes QEMU count the header as an L2 table, but not check its flags.
    if (this.#offset === 0) return;
    const refcount = this.#refcountFor(Math.floor(offset / this.#image.clusterBytes));
    if (refcount === undefined || (refcount === 1) === isCopiedEntry(high)) return;
    this.#image.log.add('copied-flag', this.#offset + at, this.#activeTimes, () => copiedMessage(high, refcount));
  }

  /** What the flag is compared with, on the one pass on which that is done. */
  #refcountFor(cluster: number): number | undefined {
    const window = this.#window;
    if (this.#image.hasDataFile) return window.isFirstPass ? 1 : undefined;
    return storedRefcountOnce(this.#image, window, this.#stored, cluster);
  }

  #tell(kind: ProblemKind, at: number, describe: () => string): void {
    if (this.#window.isFirstPass) this.#image.log.add(kind, this.#offset + at, this.#times, describe);
  }
}

/**
 * The stored refcount of a cluster on the pass whose window holds it (the first one for a cluster past the end of the
 * file), undefined on the others or if it cannot be told.
 * @throws Qcow2fsError IO.
 */
export function storedRefcountOnce(
  image: CheckedImage,
  window: ReferenceWindow,
  stored: StoredRefcounts,
  cluster: number,
): number | undefined {
  const isPastEnd = cluster >= image.clusterCount;
  if (!(isPastEnd ? window.isFirstPass : window.has(cluster))) return undefined;
  const refcount = isPastEnd ? stored.lookup(cluster) : window.storedFor(cluster);
  return refcount === REFCOUNT_UNKNOWN ? undefined : refcount;
}

export function copiedMessage(high: number, refcount: number): string {
  const isSet = isCopiedEntry(high) ? 'is set' : 'is not set';
  return `the flag "refcount is exactly one" ${isSet}, but the refcount is ${refcount}`;
}
