/**
 * What each state of an image holds of the file, from the tables of all states. Tables that states share are walked once: the cost
 * grows with the tables that are different, not with the number of states times the size of the disk.
 */

import type { Qcow2File } from '../open-qcow2.ts';
import { StoredRefcount } from '../stored-refcount.ts';
import { REFCOUNT_CEILING, REFCOUNT_UNKNOWN } from '../wire/refcount-entries.ts';
import type { WorkLimit } from '../work-limit.ts';
import { ChangedRows } from './changed-rows.ts';
import { ClusterOwners } from './cluster-owners.ts';
import { type Column, createColumn, fillColumn, NO_TABLE } from './column.ts';
import { L2Rows, type Rows } from './l2-rows.ts';
import { ProblemLines } from './problem-lines.ts';
import { RowGroups } from './row-groups.ts';
import { StateColumns, type StateTables } from './state-tables.ts';

/** Of one state. Compressed clusters count with the bytes that they take in the file. */
export interface StateUsage {
  /** Clusters that the state can reach. */
  readonly referBytes: number;
  /** Clusters that no other state can reach. */
  readonly usedBytes: number;
  /** L1 and L2 tables that the state can reach, and those that no other one can. */
  readonly referMetadataBytes: number;
  readonly usedMetadataBytes: number;
  /** Whole clusters of the file, of either kind, that nothing refers to without this state: what its end makes free. */
  readonly freeableBytes: number;
  /** Bytes of the disk that may differ from those of the state before it. */
  readonly writtenBytes: number;
}

/** What the end of several states makes free together. */
export interface FreedSpace {
  readonly usedBytes: number;
  readonly usedMetadataBytes: number;
  readonly freeableBytes: number;
}

export interface SpaceUsage {
  /** By the number of the state. */
  readonly usageOf: (state: number) => StateUsage;
  readonly chosen: FreedSpace;
  /** Clusters whose stored refcount is not the number of references that was found. */
  readonly wrongRefcountCount: number;
  readonly problems: readonly string[];
}

export interface UsageOptions {
  /** States by their numbers in `states`: what their end makes free together. */
  readonly chosen: readonly number[];
  readonly limit: WorkLimit;
  /** False where a writer may not have written all refcounts yet. */
  readonly areRefcountsCompared: boolean;
}

const REFCOUNT_CACHE_BYTES = 8 * 1024 * 1024;

/**
 * @param states in the order of their dates, which is what `writtenBytes` is about
 * @throws Qcow2fsError IO; UNSUPPORTED as `WorkLimit.spend`.
 */
export function measureUsage(file: Qcow2File, states: StateTables, options: UsageOptions): SpaceUsage {
  return new UsageWalk(file, states, options).walk();
}

class UsageWalk {
  readonly #file: Qcow2File;
  readonly #states: StateTables;
  readonly #limit: WorkLimit;
  readonly #isChosen: Uint8Array;
  readonly #columns: StateColumns;
  readonly #rows: L2Rows;
  readonly #groups: RowGroups;
  readonly #changed: ChangedRows;
  readonly #refcounts: StoredRefcount | undefined;
  readonly #owners: ClusterOwners;
  readonly #problems = new ProblemLines();
  readonly #usage: Record<keyof StateUsage, Float64Array>;
  readonly #freed = { usedBytes: 0, usedMetadataBytes: 0, freeableBytes: 0 };
  #wrongRefcountCount = 0;
  #written = 0;
  readonly #countWritten = (start: number, end: number): void => {
    this.#written += end - start;
  };

  constructor(file: Qcow2File, states: StateTables, { chosen, limit, areRefcountsCompared }: UsageOptions) {
    this.#file = file;
    this.#states = states;
    this.#limit = limit;
    this.#owners = new ClusterOwners(limit);
    this.#isChosen = new Uint8Array(states.length);
    for (const state of chosen) this.#isChosen[state] = 1;
    this.#columns = new StateColumns(file.storage, file, states, limit);
    this.#rows = new L2Rows(file.storage, file, limit);
    this.#groups = new RowGroups(this.#rows, file, limit);
    this.#changed = new ChangedRows(this.#rows, file);
    if (areRefcountsCompared && file.header.refcountTableOffset % file.clusterBytes === 0) {
      this.#refcounts = new StoredRefcount(file.storage, file, REFCOUNT_CACHE_BYTES);
    }
    const create = () => new Float64Array(states.length);
    this.#usage = {
      referBytes: create(),
      usedBytes: create(),
      referMetadataBytes: create(),
      usedMetadataBytes: create(),
      freeableBytes: create(),
      writtenBytes: create(),
    };
  }

  walk(): SpaceUsage {
    const offsets = new Float64Array(this.#states.length);
    const column = createColumn(this.#states.length);
    this.#addL1Tables();
    const columns = this.#columns;
    for (let index = columns.next(0); index < columns.count; index = columns.next(index + 1)) {
      columns.read(index, offsets);
      this.#leaveOutUnaligned(offsets);
      fillColumn(column, offsets, this.#isChosen);
      if (column.tableCount > 0) this.#addColumn(column, index * columns.coverageBytes);
    }
    this.#addCompressedClusters();
    const usage = this.#usage;
    return {
      usageOf: (state) => ({
        referBytes: usage.referBytes[state] ?? 0,
        usedBytes: usage.usedBytes[state] ?? 0,
        referMetadataBytes: usage.referMetadataBytes[state] ?? 0,
        usedMetadataBytes: usage.usedMetadataBytes[state] ?? 0,
        freeableBytes: usage.freeableBytes[state] ?? 0,
        writtenBytes: usage.writtenBytes[state] ?? 0,
      }),
      chosen: this.#freed,
      wrongRefcountCount: this.#wrongRefcountCount,
      problems: this.#problems.list(),
    };
  }

  /** As if they were not there: nothing is known of what they map. */
  #leaveOutUnaligned(offsets: Float64Array): void {
    const { clusterBytes } = this.#file;
    for (let state = 0; state < offsets.length; state++) {
      const offset = offsets[state] ?? 0;
      if (offset % clusterBytes === 0) continue;
      this.#problems.add(() => `the L2 table at offset ${offset} is not cluster aligned: what it maps is not counted`);
      offsets[state] = 0;
    }
  }

  /** Each state has one of its own. */
  #addL1Tables(): void {
    const { clusterBytes } = this.#file;
    for (const [state, l1Size] of this.#states.l1Sizes.entries()) {
      const bytes = Math.ceil((l1Size * 8) / clusterBytes) * clusterBytes;
      this.#add('referMetadataBytes', state, bytes);
      this.#add('usedMetadataBytes', state, bytes);
      this.#add('freeableBytes', state, bytes);
      if (this.#isChosen[state] !== 1) continue;
      this.#freed.usedMetadataBytes += bytes;
      this.#freed.freeableBytes += bytes;
    }
  }

  #addColumn(column: Column, guestOffset: number): void {
    this.#addTables(column);
    const rowCount = this.#rows.reserve(column.tableCount);
    this.#groups.start(column);
    for (let row = 0; row < this.#rows.tableRowCount; row += rowCount) {
      this.#loadSlice(column, row);
      this.#groups.addSlice(rowCount, (count, chosenCount, owner, hostOffset, storedBytes) =>
        this.#addReferences(count, chosenCount, owner, hostOffset, storedBytes),
      );
      this.#addWritten(column, guestOffset + row * this.#file.clusterBytes, rowCount);
    }
    for (let state = 0; state < this.#states.length; state++) {
      const table = column.tableOf[state] ?? NO_TABLE;
      if (table === NO_TABLE) continue;
      this.#add('referBytes', state, this.#groups.referBytes[table] ?? 0);
      if (column.stateCounts[table] !== 1) continue;
      this.#add('usedBytes', state, this.#groups.usedBytes[table] ?? 0);
      this.#add('freeableBytes', state, this.#groups.freeableBytes[table] ?? 0);
    }
    this.#freed.usedBytes += this.#groups.chosenUsedBytes;
    this.#freed.freeableBytes += this.#groups.chosenFreeableBytes;
  }

  /** The L2 tables themselves. */
  #addTables({ tableCount, tableOffsets, tableOf, stateCounts, chosenCounts }: Column): void {
    const { clusterBytes } = this.#file;
    for (let table = 0; table < tableCount; table++) {
      const [offset = 0, count = 0] = [tableOffsets[table], stateCounts[table]];
      this.#compareRefcount(offset / clusterBytes, count);
      if (chosenCounts[table] !== count) continue;
      this.#freed.usedMetadataBytes += clusterBytes;
      this.#freed.freeableBytes += clusterBytes;
    }
    for (let state = 0; state < this.#states.length; state++) {
      const table = tableOf[state] ?? NO_TABLE;
      if (table === NO_TABLE) continue;
      this.#add('referMetadataBytes', state, clusterBytes);
      if (stateCounts[table] !== 1) continue;
      this.#add('usedMetadataBytes', state, clusterBytes);
      this.#add('freeableBytes', state, clusterBytes);
    }
  }

  #loadSlice({ tableCount, tableOffsets }: Column, row: number): void {
    for (let table = 0; table < tableCount; table++) {
      const offset = tableOffsets[table] ?? 0;
      if (this.#rows.load(table, offset, row)) continue;
      this.#problems.add(
        () => `the file ends before the end of the L2 table at offset ${offset}: the rest is not counted`,
      );
    }
  }

  /** References to a cluster, or to the compressed data of one. */
  #addReferences(
    count: number,
    chosenCount: number,
    owner: number | undefined,
    hostOffset: number,
    storedBytes: number,
  ): void {
    const { clusterBytes } = this.#file;
    const first = Math.floor(hostOffset / clusterBytes);
    if (storedBytes === 0) {
      if (!this.#file.hasDataFile) this.#compareRefcount(first, count);
      return;
    }
    const last = Math.floor((hostOffset + storedBytes - 1) / clusterBytes);
    for (let cluster = first; cluster <= last; cluster++) this.#owners.add(cluster, count, chosenCount, owner);
  }

  #addCompressedClusters(): void {
    const { clusterBytes } = this.#file;
    this.#owners.forEach((cluster, count, owner, isChosen) => {
      this.#compareRefcount(cluster, count);
      if (owner !== undefined) this.#add('freeableBytes', owner, clusterBytes);
      if (isChosen) this.#freed.freeableBytes += clusterBytes;
    });
  }

  #compareRefcount(cluster: number, count: number): void {
    if (this.#refcounts === undefined) return;
    const stored = this.#refcounts.of(cluster);
    const isSame = stored === count || (stored === REFCOUNT_CEILING && count > REFCOUNT_CEILING);
    if (stored !== REFCOUNT_UNKNOWN && isSame) return;
    this.#wrongRefcountCount += 1;
  }

  /** What each state has changed of the one before it. */
  #addWritten(column: Column, guestOffset: number, rowCount: number): void {
    for (let state = 0; state < this.#states.length; state++) {
      const [table, before] = [column.tableOf[state] ?? NO_TABLE, column.tableOf[state - 1] ?? NO_TABLE];
      const diskBytes = this.#states.diskBytes[state] ?? 0;
      const bytesBefore = this.#states.diskBytes[state - 1] ?? diskBytes;
      const isSame = table === before && state > 0;
      if (isSame && (table === NO_TABLE || diskBytes === bytesBefore)) continue;
      this.#limit.spend(rowCount * this.#rows.entryBytes);
      this.#written = 0;
      this.#changed.compare(
        { rows: this.#rowsOf(before), diskBytes: bytesBefore },
        { rows: this.#rowsOf(table), diskBytes },
        { guestOffset, rowCount },
        this.#countWritten,
      );
      this.#add('writtenBytes', state, this.#written);
    }
  }

  #rowsOf(table: number): Rows {
    return table === NO_TABLE ? this.#rows.none : this.#rows.rows(table);
  }

  #add(what: keyof StateUsage, state: number, bytes: number): void {
    this.#usage[what][state] = (this.#usage[what][state] ?? 0) + bytes;
  }
}
