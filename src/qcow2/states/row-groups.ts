/**
 * Finds, row by row, which tables of a column refer to the same cluster: how many states hold it. Two tables of one column are copies
 * of each other that were changed, so most rows are the same in all of them.
 */

import type { Qcow2Metadata } from '../open-qcow2.ts';
import {
  type ClusterPlaces,
  compressedBytes,
  compressedOffset,
  entryOffset,
  hasCluster,
  isCompressedEntry,
} from '../wire/table-entries.ts';
import type { WorkLimit } from '../work-limit.ts';
import type { Column } from './column.ts';
import type { L2Rows } from './l2-rows.ts';
import { meaninglessBits, swapWord } from './raw-entries.ts';

/**
 * Called for each cluster that a row refers to: with the states that do, how many of them are chosen, and the only one if there is
 * one. `storedBytes` is 0 for a whole cluster, and else the length of the compressed data at `hostOffset`.
 */
export type OnReferences = (
  stateCount: number,
  chosenCount: number,
  owner: number | undefined,
  hostOffset: number,
  storedBytes: number,
) => void;

/** The tables that refer to one cluster. */
interface Group {
  hostOffset: number;
  storedBytes: number;
  stateCount: number;
  chosenCount: number;
  anyTable: number;
}

const NO_GROUP = -1;
/** `Group.hostOffset` of an entry that refers to nothing: 0 is a cluster of a data file. */
const NO_CLUSTER = -1;

export class RowGroups {
  /** For each table: bytes that it refers to; those that only its state holds; whole clusters among these. */
  referBytes = new Float64Array(0);
  usedBytes = new Float64Array(0);
  freeableBytes = new Float64Array(0);
  /** What nobody holds but chosen states, in all tables. */
  chosenUsedBytes = 0;
  chosenFreeableBytes = 0;
  readonly #rows: L2Rows;
  readonly #clusterBytes: number;
  readonly #clusterBits: number;
  readonly #places: ClusterPlaces;
  readonly #ignoredBits: number;
  readonly #limit: WorkLimit;
  readonly #groups: Group[] = [];
  #groupOf = new Int32Array(0);
  #groupCount = 0;
  #column: Column | undefined;
  #stateCount = 0;
  #chosenCount = 0;

  constructor(rows: L2Rows, file: Qcow2Metadata, limit: WorkLimit) {
    this.#rows = rows;
    this.#clusterBytes = file.clusterBytes;
    this.#clusterBits = file.header.clusterBits;
    this.#places = file;
    this.#ignoredBits = meaninglessBits(file);
    this.#limit = limit;
  }

  start(column: Column): void {
    const { tableCount, stateCounts, chosenCounts } = column;
    this.#column = column;
    this.chosenUsedBytes = 0;
    this.chosenFreeableBytes = 0;
    this.#stateCount = 0;
    this.#chosenCount = 0;
    for (let table = 0; table < tableCount; table++) {
      this.#stateCount += stateCounts[table] ?? 0;
      this.#chosenCount += chosenCounts[table] ?? 0;
    }
    if (this.referBytes.length < tableCount) {
      this.referBytes = new Float64Array(tableCount);
      this.usedBytes = new Float64Array(tableCount);
      this.freeableBytes = new Float64Array(tableCount);
      this.#groupOf = new Int32Array(tableCount);
    } else {
      this.referBytes.fill(0);
      this.usedBytes.fill(0);
      this.freeableBytes.fill(0);
    }
  }

  /** Adds the first rows of all tables, as they are in memory now. */
  addSlice(rowCount: number, onReferences: OnReferences): void {
    const column = this.#column;
    if (column === undefined) return;
    const { words, entryBytes } = this.#rows;
    const { tableCount } = column;
    const base = this.#rows.rows(0).at / 4;
    const tableWords = this.#rows.rows(1).at / 4 - base;
    const comparedBits = ~this.#ignoredBits;
    for (let row = 0; row < rowCount; row++) {
      const first = base + (row * entryBytes) / 4;
      const high = (words[first] ?? 0) & comparedBits;
      const low = words[first + 1] ?? 0;
      let isUniform = true;
      for (let table = 1, at = first + tableWords; table < tableCount; table++, at += tableWords) {
        if (((words[at] ?? 0) & comparedBits) === high && words[at + 1] === low) continue;
        isUniform = false;
        break;
      }
      if (isUniform) {
        if (high !== 0 || low !== 0) this.#addUniform(column, first, onReferences);
      } else {
        this.#addDifferent(column, first, tableWords, onReferences);
      }
    }
  }

  #addUniform({ tableCount, anyState }: Column, at: number, onReferences: OnReferences): void {
    const group = this.#group(0);
    this.#decode(at, group);
    if (group.hostOffset === NO_CLUSTER) return;
    const bytes = group.storedBytes || this.#clusterBytes;
    for (let table = 0; table < tableCount; table++) this.#refer(table, bytes);
    this.#hold(0, this.#stateCount, this.#chosenCount, group.storedBytes);
    const owner = this.#stateCount === 1 ? anyState[0] : undefined;
    onReferences(this.#stateCount, this.#chosenCount, owner, group.hostOffset, group.storedBytes);
  }

  #addDifferent(column: Column, first: number, tableWords: number, onReferences: OnReferences): void {
    const { tableCount, stateCounts, chosenCounts, anyState } = column;
    this.#groupCount = 0;
    for (let table = 0, at = first; table < tableCount; table++, at += tableWords) {
      const index = this.#findGroup(at);
      this.#groupOf[table] = index;
      const group = this.#groups[index];
      if (group === undefined) continue;
      group.stateCount += stateCounts[table] ?? 0;
      group.chosenCount += chosenCounts[table] ?? 0;
      group.anyTable = table;
      this.#refer(table, group.storedBytes || this.#clusterBytes);
    }
    this.#limit.spend(tableCount * (this.#groupCount + 1));
    for (let index = 0; index < this.#groupCount; index++) {
      const group = this.#group(index);
      const { stateCount, chosenCount, anyTable, hostOffset, storedBytes } = group;
      this.#hold(anyTable, stateCount, chosenCount, storedBytes);
      onReferences(stateCount, chosenCount, stateCount === 1 ? anyState[anyTable] : undefined, hostOffset, storedBytes);
    }
  }

  /** The place of the group of the cluster that an entry refers to, a new one if there is none; NO_GROUP if it refers to nothing. */
  #findGroup(at: number): number {
    const candidate = this.#group(this.#groupCount);
    this.#decode(at, candidate);
    const { hostOffset, storedBytes } = candidate;
    if (hostOffset === NO_CLUSTER) return NO_GROUP;
    for (let index = 0; index < this.#groupCount; index++) {
      const group = this.#group(index);
      if (group.hostOffset === hostOffset && (group.storedBytes === 0) === (storedBytes === 0)) return index;
    }
    candidate.stateCount = 0;
    candidate.chosenCount = 0;
    return this.#groupCount++;
  }

  #group(index: number): Group {
    let group = this.#groups[index];
    if (group === undefined) {
      group = { hostOffset: NO_CLUSTER, storedBytes: 0, stateCount: 0, chosenCount: 0, anyTable: 0 };
      this.#groups[index] = group;
    }
    return group;
  }

  /** `at`: its first word. A cluster that reads as zeros but has its place still takes it. */
  #decode(at: number, into: Group): void {
    const { words } = this.#rows;
    const high = swapWord(words[at] ?? 0);
    const low = swapWord(words[at + 1] ?? 0) >>> 0;
    if (!isCompressedEntry(high)) {
      into.hostOffset = hasCluster(high, low, this.#places) ? entryOffset(high, low) : NO_CLUSTER;
      into.storedBytes = 0;
    } else if (this.#places.hasDataFile) {
      // No such image may have one: neither of the two files has a place for it.
      into.hostOffset = NO_CLUSTER;
      into.storedBytes = 0;
    } else {
      into.hostOffset = compressedOffset(high, low, this.#clusterBits);
      into.storedBytes = compressedBytes(high, low, this.#clusterBits);
    }
  }

  #refer(table: number, bytes: number): void {
    this.referBytes[table] = (this.referBytes[table] ?? 0) + bytes;
  }

  #hold(table: number, stateCount: number, chosenCount: number, storedBytes: number): void {
    const bytes = storedBytes || this.#clusterBytes;
    // Clusters with compressed data are free when all their data is: see `ClusterOwners`.
    const freeableBytes = storedBytes === 0 ? this.#clusterBytes : 0;
    if (stateCount === 1) {
      this.usedBytes[table] = (this.usedBytes[table] ?? 0) + bytes;
      this.freeableBytes[table] = (this.freeableBytes[table] ?? 0) + freeableBytes;
    }
    if (chosenCount !== stateCount) return;
    this.chosenUsedBytes += bytes;
    this.chosenFreeableBytes += freeableBytes;
  }
}
