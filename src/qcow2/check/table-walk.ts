/**
 * Walks the L2 tables of all states. Snapshots share most of their tables: each table is walked once, in the order of
 * the file, for all states that refer to it.
 */

import { entryOffset, hasReservedL1Bits, isCopiedEntry } from '../wire/table-entries.ts';
import type { CheckedImage } from './checked-image.ts';
import { forEachL1Entry, type L1Table } from './l1-tables.ts';
import { copiedMessage, type L2Walk, storedRefcountOnce } from './l2-walk.ts';
import { CLUSTER_USES, type ReferenceWindow } from './reference-window.ts';
import type { StoredRefcounts } from './stored-refcounts.ts';

/** Tables are gathered for as many clusters of the file at a time as references are. */
const MAX_COUNT = 0xffff_ffff;
const MAX_ACTIVE_COUNT = 0xff;

export class TableWalk {
  readonly #image: CheckedImage;
  readonly #l1Tables: readonly L1Table[];
  readonly #window: ReferenceWindow;
  readonly #stored: StoredRefcounts;
  readonly #l2Walk: L2Walk;
  /** For each cluster of a part of the file: how many L1 entries refer to it, and how many of the current state. */
  readonly #times: Uint32Array;
  readonly #activeTimes: Uint8Array;
  /** Parts of the file with L2 tables; the first one is always looked at. */
  #parts: readonly number[] | undefined;

  constructor(
    image: CheckedImage,
    l1Tables: readonly L1Table[],
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
   * grows from 0 to 1.
   * @throws Qcow2fsError IO.
   */
  countReferences(onProgress: (fraction: number) => void): void {
    this.#parts ??= this.#findParts();
    const { length } = this.#parts;
    for (const [index, part] of this.#parts.entries()) {
      this.#gatherTables(part, index === 0);
      this.#walkTables(part, (fraction) => onProgress((index + fraction) / length));
    }
  }

  #findParts(): number[] {
    const partClusters = this.#window.windowClusters;
    const hasTables = new Uint8Array(Math.ceil(this.#image.clusterCount / partClusters));
    hasTables[0] = 1;
    if (hasTables.length > 1) {
      for (const table of this.#l1Tables) {
        forEachL1Entry(this.#image, table, (high, low) => {
          const part = Math.floor(entryOffset(high, low) / this.#image.clusterBytes / partClusters);
          if (part < hasTables.length) hasTables[part] = 1;
        });
      }
    }
    return [...hasTables.keys()].filter((part) => hasTables[part] === 1);
  }

  /** Reads all L1 tables. The entries themselves are counted and checked once for each window. */
  #gatherTables(part: number, countsEntries: boolean): void {
    const { clusterBytes } = this.#image;
    const first = part * this.#window.windowClusters;
    this.#times.fill(0);
    this.#activeTimes.fill(0);
    for (const table of this.#l1Tables) {
      forEachL1Entry(this.#image, table, (high, low, position) => {
        if (countsEntries) this.#countEntry(table, high, low, position);
        const offset = entryOffset(high, low);
        const at = Math.floor(offset / clusterBytes) - first;
        if (at < 0 || at >= this.#times.length) return;
        if (offset % clusterBytes === 0) this.#gather(at, table);
        else this.#l2Walk.walk(offset, table.times, table.isActive ? 1 : 0);
      });
    }
  }

  #gather(at: number, { times, isActive }: L1Table): void {
    this.#times[at] = Math.min(MAX_COUNT, (this.#times[at] ?? 0) + times);
    if (isActive) this.#activeTimes[at] = Math.min(MAX_ACTIVE_COUNT, (this.#activeTimes[at] ?? 0) + 1);
  }

  #countEntry({ times, isActive }: L1Table, high: number, low: number, position: number): void {
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
    if (!isActive || offset === 0) return;
    const cluster = Math.floor(offset / clusterBytes);
    const refcount = storedRefcountOnce(this.#image, this.#window, this.#stored, cluster);
    if (refcount === undefined || (refcount === 1) === isCopiedEntry(high)) return;
    log.add('copied-flag', position, 1, () => copiedMessage(high, refcount));
  }

  #walkTables(part: number, onProgress: (fraction: number) => void): void {
    const first = part * this.#window.windowClusters;
    const { length } = this.#times;
    for (let at = 0; at < length; at++) {
      const times = this.#times[at] ?? 0;
      if (times === 0) continue;
      onProgress(at / length);
      this.#l2Walk.walk((first + at) * this.#image.clusterBytes, times, this.#activeTimes[at] ?? 0);
    }
  }
}
