/**
 * The guest ranges in which two states of an image may differ: from their L1 tables, then from L2 tables that are not the same, then
 * from nothing. No cluster is read.
 */

import type { Qcow2File } from '../open-qcow2.ts';
import type { WorkLimit } from '../work-limit.ts';
import { ChangedRows, type OnChange } from './changed-rows.ts';
import { L2Rows, type Rows } from './l2-rows.ts';
import { ProblemLines } from './problem-lines.ts';
import { RangeList } from './range-list.ts';
import { StateColumns, type StateTable, StateTables } from './state-tables.ts';

const L1_ENTRY_BYTES = 8;

export interface ChangedRanges {
  readonly ranges: RangeList;
  /** Tables that cannot be read, one line each: what they map is in `ranges`. */
  readonly problems: readonly string[];
}

/**
 * The ranges are within the longer of the two disks; behind the end of the shorter one are zeros. Every byte that differs is in one
 * of them, and nothing is that both states have from the same cluster, or that reads as zeros in both.
 * @throws Qcow2fsError IO; UNSUPPORTED as `WorkLimit.spend`.
 */
export function findChangedRanges(
  file: Qcow2File,
  one: StateTable,
  other: StateTable,
  limit: WorkLimit,
): ChangedRanges {
  return new Finder(file, one, other, limit).find();
}

class Finder {
  readonly #file: Qcow2File;
  readonly #states: readonly [StateTable, StateTable];
  readonly #sharedBytes: number;
  readonly #columns: StateColumns;
  readonly #rows: L2Rows;
  readonly #changed: ChangedRows;
  readonly #ranges = new RangeList();
  readonly #problems = new ProblemLines();
  readonly #onChange: OnChange = (start, end) => this.#ranges.add(start, end);

  constructor(file: Qcow2File, one: StateTable, other: StateTable, limit: WorkLimit) {
    this.#file = file;
    this.#states = [one, other];
    this.#sharedBytes = Math.min(one.diskBytes, other.diskBytes);
    const tables = new StateTables(2);
    for (const [place, { l1Offset, l1Size, diskBytes }] of this.#states.entries()) {
      tables.set(place, l1Offset, l1Size, diskBytes);
    }
    this.#columns = new StateColumns(file.storage, file, tables, limit);
    this.#rows = new L2Rows(file.storage, file, limit);
    this.#changed = new ChangedRows(this.#rows, file);
  }

  find(): ChangedRanges {
    const [one, other] = this.#states;
    const longest = Math.max(one.diskBytes, other.diskBytes);
    const { coverageBytes } = this.#columns;
    const count = Math.min(this.#columns.count, Math.ceil(longest / coverageBytes));
    const offsets = new Float64Array(2);
    for (let column = 0; column < count; column++) {
      this.#columns.read(column, offsets);
      const [first = 0, second = 0] = offsets;
      const start = column * coverageBytes;
      const cut =
        one.l1Offset === other.l1Offset ? undefined : this.#states.find((state) => this.#isCut(state, column));
      if (cut !== undefined) {
        const problem = `the file ends before the end of the L1 table at offset ${cut.l1Offset}`;
        this.#addUnreadable(problem, start, Math.min(start + coverageBytes, longest));
        continue;
      }
      this.#compareColumn(first, second, start, Math.min(start + coverageBytes, longest));
    }
    // A disk may go on behind its L1 table.
    this.#addEmpty(count * coverageBytes, longest);
    return { ranges: this.#ranges, problems: this.#problems.list() };
  }

  /** The table has an entry for the column, but not within the file. */
  #isCut({ l1Offset, l1Size }: StateTable, column: number): boolean {
    return column < l1Size && l1Offset + (column + 1) * L1_ENTRY_BYTES > this.#file.storage.sizeBytes;
  }

  #compareColumn(first: number, second: number, start: number, end: number): void {
    if (first === second) {
      if (first === 0) this.#addEmpty(start, end);
      if (first === 0 || end <= this.#sharedBytes) return;
    }
    for (const l2Offset of new Set([first, second])) {
      if (l2Offset % this.#file.clusterBytes === 0) continue;
      this.#addUnreadable(`the L2 table at offset ${l2Offset} is not cluster aligned`, start, end);
      return;
    }
    this.#compareTables(first, second, start, end);
  }

  /** Where neither state has a table: behind the end of the shorter disk, the other one has what the backing file has. */
  #addEmpty(start: number, end: number): void {
    if (this.#file.backingName !== undefined) this.#ranges.add(Math.max(start, this.#sharedBytes), end);
  }

  #addUnreadable(problem: string, start: number, end: number): void {
    this.#problems.add(() => `${problem}: the range from ${start} to ${end} counts as changed`);
    this.#ranges.add(start, end);
  }

  #compareTables(first: number, second: number, start: number, end: number): void {
    const [one, other] = this.#states;
    const rows = this.#rows;
    const rowCount = rows.reserve(2);
    for (let row = 0; row < rows.tableRowCount; row += rowCount) {
      const guestOffset = start + row * this.#file.clusterBytes;
      if (guestOffset >= end) return;
      const missing = [first, second].find((offset, place) => offset !== 0 && !rows.load(place, offset, row));
      if (missing !== undefined) {
        const problem = `the file ends before the end of the L2 table at offset ${missing}`;
        this.#addUnreadable(problem, guestOffset, end);
        return;
      }
      this.#changed.compare(
        { rows: this.#rowsOf(0, first), diskBytes: one.diskBytes },
        { rows: this.#rowsOf(1, second), diskBytes: other.diskBytes },
        { guestOffset, rowCount },
        this.#onChange,
      );
    }
  }

  #rowsOf(place: number, l2Offset: number): Rows {
    return l2Offset === 0 ? this.#rows.none : this.#rows.rows(place);
  }
}
