/** The L1 tables of all states of an image, beside each other. */

import type { Sequence } from '../../common/sequence.ts';
import type { Storage } from '../../storage/storage.ts';
import { tableCoverageBytes } from '../cluster-map.ts';
import type { Qcow2Metadata } from '../open-qcow2.ts';
import { activeL1TableProblem } from '../qcow2-image.ts';
import type { Snapshot } from '../snapshots.ts';
import { entryOffset } from '../wire/table-entries.ts';
import type { WorkLimit } from '../work-limit.ts';

/** Where a state has its tables. */
export interface StateTable {
  readonly l1Offset: number;
  /** In entries; 0 if the table cannot be used. */
  readonly l1Size: number;
  /** Of the disk of the state. */
  readonly diskBytes: number;
}

/** Where states have their tables, by their numbers: there may be tens of thousands. */
export class StateTables {
  readonly l1Offsets: Float64Array;
  /** In entries; 0 if the table cannot be used. */
  readonly l1Sizes: Uint32Array;
  /** Of the disk of each state. */
  readonly diskBytes: Float64Array;

  constructor(count: number) {
    this.l1Offsets = new Float64Array(count);
    this.l1Sizes = new Uint32Array(count);
    this.diskBytes = new Float64Array(count);
  }

  get length(): number {
    return this.l1Sizes.length;
  }

  at(state: number): StateTable | undefined {
    if (state < 0 || state >= this.length) return undefined;
    const [l1Offset = 0, l1Size = 0, diskBytes = 0] = [
      this.l1Offsets[state],
      this.l1Sizes[state],
      this.diskBytes[state],
    ];
    return { l1Offset, l1Size, diskBytes };
  }

  set(state: number, l1Offset: number, l1Size: number, diskBytes: number): void {
    this.l1Offsets[state] = l1Offset;
    this.l1Sizes[state] = l1Size;
    this.diskBytes[state] = diskBytes;
  }

  /** Those of some states, in the order of their `numbers`. */
  pick(numbers: readonly number[]): StateTables {
    const picked = new StateTables(numbers.length);
    for (const [place, state] of numbers.entries()) {
      picked.set(place, this.l1Offsets[state] ?? 0, this.l1Sizes[state] ?? 0, this.diskBytes[state] ?? 0);
    }
    return picked;
  }
}

const ENTRY_BYTES = 8;
/** What is read of all L1 tables at once. */
const BLOCK_BYTES = 4 * 1024 * 1024;
const MAX_COLUMNS_AT_ONCE = 8192;

/** Those of the current state, and of each snapshot behind it. */
export function stateTablesOf(file: Qcow2Metadata, snapshots: Sequence<Snapshot>): StateTables {
  const tables = new StateTables(snapshots.length + 1);
  const { l1Size, l1TableOffset } = file.header;
  tables.set(0, l1TableOffset, activeL1TableProblem(file) === undefined ? l1Size : 0, file.sizeBytes);
  let state = 1;
  for (const { entry, sizeBytes } of snapshots) tables.set(state++, entry.l1TableOffset, entry.l1Size, sizeBytes);
  return tables;
}

/**
 * Column n has the L2 tables of all states for the same guest range: entry n of each L1 table. What a table does not have, for
 * it is shorter or the file ends, is 0: no L2 table.
 */
export class StateColumns {
  readonly count: number;
  /** Guest bytes of a column. */
  readonly coverageBytes: number;
  readonly #storage: Storage;
  readonly #states: StateTables;
  readonly #limit: WorkLimit | undefined;
  readonly #columnsAtOnce: number;
  readonly #block: Buffer;
  #first = -1;
  /** The columns of the block from this one on are empty, as far as the files and tables went. */
  #emptyFrom = 0;

  constructor(storage: Storage, file: Qcow2Metadata, states: StateTables, limit?: WorkLimit) {
    this.count = states.l1Sizes.reduce((most, l1Size) => Math.max(most, l1Size), 0);
    this.coverageBytes = tableCoverageBytes(file);
    this.#storage = storage;
    this.#states = states;
    this.#limit = limit;
    const fitting = Math.floor(BLOCK_BYTES / ENTRY_BYTES / Math.max(1, states.length));
    this.#columnsAtOnce = Math.min(Math.max(1, fitting), MAX_COLUMNS_AT_ONCE, Math.max(1, this.count));
    this.#block = Buffer.alloc(this.#columnsAtOnce * states.length * ENTRY_BYTES);
  }

  /**
   * Puts the file offsets of the L2 tables of a column into `into`, one for each state.
   * @throws Qcow2fsError IO; UNSUPPORTED as `WorkLimit.spend`.
   */
  read(column: number, into: Float64Array): void {
    if (!this.#isLoaded(column)) this.#load(column);
    let at = (column - this.#first) * ENTRY_BYTES;
    for (let state = 0; state < into.length; state++) {
      into[state] = entryOffset(this.#block.readUInt32BE(at), this.#block.readUInt32BE(at + 4));
      at += this.#columnsAtOnce * ENTRY_BYTES;
    }
  }

  /**
   * The first column from `column` on that may have a table; `count` if there is none.
   * @throws Qcow2fsError as `read`.
   */
  next(column: number): number {
    let at = column;
    while (at < this.count) {
      if (!this.#isLoaded(at)) this.#load(at);
      if (at < this.#emptyFrom) return at;
      at = this.#first + this.#columnsAtOnce;
    }
    return this.count;
  }

  #isLoaded(column: number): boolean {
    return this.#first >= 0 && column >= this.#first && column < this.#first + this.#columnsAtOnce;
  }

  #load(column: number): void {
    const first = column - (column % this.#columnsAtOnce);
    const rowBytes = this.#columnsAtOnce * ENTRY_BYTES;
    let usedBytes = 0;
    const { l1Offsets, l1Sizes, length } = this.#states;
    for (let state = 0; state < length; state++) {
      const [l1Offset = 0, l1Size = 0] = [l1Offsets[state], l1Sizes[state]];
      const start = state * rowBytes;
      const wanted = Math.max(0, Math.min(this.#columnsAtOnce, l1Size - first)) * ENTRY_BYTES;
      if (wanted > 0) this.#limit?.spendRead(wanted);
      const position = l1Offset + first * ENTRY_BYTES;
      const count = wanted === 0 ? 0 : this.#storage.readUpTo(this.#block, start, wanted, position);
      this.#block.fill(0, start + count - (count % ENTRY_BYTES), start + rowBytes);
      usedBytes = Math.max(usedBytes, lastUsed(this.#block, start, count - (count % ENTRY_BYTES)));
    }
    this.#emptyFrom = first + Math.ceil(usedBytes / ENTRY_BYTES);
    this.#first = first;
  }
}

/** How many bytes there are up to the last one that is not zero. */
function lastUsed(bytes: Buffer, start: number, length: number): number {
  let end = start + length;
  while (end > start && bytes[end - 1] === 0) end -= 1;
  return end - start;
}
