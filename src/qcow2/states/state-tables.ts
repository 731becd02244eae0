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

const ENTRY_BYTES = 8;
/** What is read of all L1 tables at once. */
const BLOCK_BYTES = 4 * 1024 * 1024;
const MAX_COLUMNS_AT_ONCE = 8192;

/** Those of the current state, and of each snapshot behind it. */
export function stateTablesOf(file: Qcow2Metadata, snapshots: Sequence<Snapshot>): StateTable[] {
  const { l1Size, l1TableOffset } = file.header;
  const isUsable = activeL1TableProblem(file) === undefined;
  const current = { l1Offset: l1TableOffset, l1Size: isUsable ? l1Size : 0, diskBytes: file.sizeBytes };
  return [current, ...Array.from(snapshots, tableOfSnapshot)];
}

function tableOfSnapshot({ entry, sizeBytes }: Snapshot): StateTable {
  return { l1Offset: entry.l1TableOffset, l1Size: entry.l1Size, diskBytes: sizeBytes };
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
  readonly #states: readonly StateTable[];
  readonly #limit: WorkLimit | undefined;
  readonly #columnsAtOnce: number;
  readonly #block: Buffer;
  #first = -1;
  /** The columns of the block from this one on are empty, as far as the files and tables went. */
  #emptyFrom = 0;

  constructor(storage: Storage, file: Qcow2Metadata, states: readonly StateTable[], limit?: WorkLimit) {
    this.count = states.reduce((most, { l1Size }) => Math.max(most, l1Size), 0);
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
    for (const [state, { l1Offset, l1Size }] of this.#states.entries()) {
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
