/**
 * Walks the L2 tables of all states. Snapshots share most of their tables: each table is walked once, in the order of
 * the file, for all states that refer to it.
 */

import { entryOffset, hasReservedL1Bits, isCopiedEntry } from '../wire/table-entries.ts';
import type { CheckedImage } from './checked-image.ts';
import { copiedMessage, type L2Walk, storedRefcountOnce } from './l2-walk.ts';
import type { CountedRange } from './merge-ranges.ts';
import type { MetadataTables } from './metadata-tables.ts';
import { CLUSTER_USES, type ReferenceWindow } from './reference-window.ts';
import type { StoredRefcounts } from './stored-refcounts.ts';

/** Tables are gathered for as many clusters of the file at a time as references are: to clear and to scan a place. */
const UNITS_PER_PLACE = 2;
/** Bounds the memory for L2 tables that are not cluster aligned: no healthy image has one, a crafted one has millions. */
const MAX_UNALIGNED_TABLES = 4096;
const MAX_COUNT = 0xffff_ffff;
const MAX_ACTIVE_COUNT = 0xff;

export class TableWalk {
  readonly #image: CheckedImage;
  readonly #l1Tables: MetadataTables;
  readonly #window: ReferenceWindow;
  readonly #stored: StoredRefcounts;
  readonly #l2Walk: L2Walk;
  /** For each cluster of a part of the file: how many L1 entries refer to it, and how many of the current state. */
  readonly #times: Uint32Array;
  readonly #activeTimes: Uint8Array;
  /** The same for each table that is not cluster aligned, by its offset. */
  readonly #unaligned = new Map<number, { times: number; activeTimes: number }>();
  /** Parts of the file with L2 tables; the first one is always looked at. */
  #parts: readonly number[] | undefined;

  constructor(
    image: CheckedImage,
    l1Tables: MetadataTables,
    window: ReferenceWindow,
    stored: StoredRefcounts,
    l2Walk: L2Walk,
  ) {
    this.#image = image;
    this.#l1Tables = l1Tables;
    this.#window = window;
    this.#stored = stored;
    this.#l2Walk = l2Walk;
    this.#times = new Uint32Array(window.references.length);
    this.#activeTimes = new Uint8Array(window.references.length);
  }

  /**
   * Counts all references of L1 and L2 tables to the clusters of the window. `onProgress` is called with a number that
   * grows from 0 to 1. Ends early when the budget is spent.
   * @throws Qcow2fsError IO.
   */
  countReferences(onProgress: (fraction: number) => void): void {
    this.#parts ??= this.#findParts();
    const { length } = this.#parts;
    for (const [index, part] of this.#parts.entries()) {
      if (!this.#image.budget.spend(this.#times.length * UNITS_PER_PLACE)) return;
      this.#gatherTables(part, index === 0);
      this.#walkTables(part, (fraction) => onProgress((index + fraction) / length));
    }
  }

  #findParts(): number[] {
    const partClusters = this.#window.windowClusters;
    const hasTables = new Uint8Array(Math.ceil(this.#image.clusterCount / partClusters));
    hasTables[0] = 1;
    if (hasTables.length > 1) {
      this.#l1Tables.forEachEntry((high, low) => {
        const part = Math.floor(entryOffset(high, low) / this.#image.clusterBytes / partClusters);
        if (part < hasTables.length) hasTables[part] = 1;
      });
    }
    return [...hasTables.keys()].filter((part) => hasTables[part] === 1);
  }

  /** Reads all L1 tables. The entries themselves are counted and checked once for each window. */
  #gatherTables(part: number, countsEntries: boolean): void {
    const { clusterBytes } = this.#image;
    const first = part * this.#window.windowClusters;
    this.#times.fill(0);
    this.#activeTimes.fill(0);
    this.#unaligned.clear();
    this.#l1Tables.forEachEntry((high, low, position, states) => {
      if (countsEntries) this.#countEntry(high, low, position, states);
      const offset = entryOffset(high, low);
      const at = Math.floor(offset / clusterBytes) - first;
      if (at < 0 || at >= this.#times.length) return;
      if (offset % clusterBytes === 0) this.#gather(at, states);
      else this.#gatherUnaligned(offset, position, states);
    });
  }

  #gather(at: number, { times, activeTimes }: CountedRange): void {
    this.#times[at] = Math.min(MAX_COUNT, (this.#times[at] ?? 0) + times);
    this.#activeTimes[at] = Math.min(MAX_ACTIVE_COUNT, (this.#activeTimes[at] ?? 0) + activeTimes);
  }

  #gatherUnaligned(offset: number, position: number, { times, activeTimes }: CountedRange): void {
    const known = this.#unaligned.get(offset);
    if (known !== undefined) {
      known.times += times;
      known.activeTimes += activeTimes;
    } else if (this.#unaligned.size < MAX_UNALIGNED_TABLES) {
      this.#unaligned.set(offset, { times, activeTimes });
    } else if (this.#window.isFirstPass) {
      this.#image.log.add('unchecked', position, times, () => {
        return `an L2 table at ${offset}, which is not cluster aligned, as are ${MAX_UNALIGNED_TABLES} before it`;
      });
    }
  }

  #countEntry(high: number, low: number, position: number, { times, activeTimes }: CountedRange): void {
    const { clusterBytes, log } = this.#image;
    const offset = entryOffset(high, low);
    this.#window.add(offset, clusterBytes, times, CLUSTER_USES.l2Table);
    if (this.#window.isFirstPass) {
      if (hasReservedL1Bits(high, low)) {
        log.add('reserved-bits', position, times, () => 'reserved bits of an L1 entry are set');
      }
      if (offset % clusterBytes !== 0) {
        log.add('unaligned', position, times, () => `the L2 table offset ${offset} is not cluster aligned`);
      }
    }
    if (activeTimes === 0 || offset === 0) return;
    const cluster = Math.floor(offset / clusterBytes);
    const refcount = storedRefcountOnce(this.#image, this.#window, this.#stored, cluster);
    if (refcount === undefined || (refcount === 1) === isCopiedEntry(high)) return;
    log.add('copied-flag', position, 1, () => copiedMessage(high, refcount));
  }

  #walkTables(part: number, onProgress: (fraction: number) => void): void {
    const first = part * this.#window.windowClusters;
    const { length } = this.#times;
    for (const [offset, { times, activeTimes }] of this.#unaligned) this.#l2Walk.walk(offset, times, activeTimes);
    for (let at = 0; at < length; at++) {
      const times = this.#times[at] ?? 0;
      if (times === 0) continue;
      if (this.#image.budget.isSpent) return;
      onProgress(at / length);
      this.#l2Walk.walk((first + at) * this.#image.clusterBytes, times, this.#activeTimes[at] ?? 0);
    }
  }
}
