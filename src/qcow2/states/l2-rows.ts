/**
 * The same rows of several L2 tables in memory, one table behind the other. Entries are compared as they are in the file, 32 bits
 * at a time: most are the same in all tables, and decoding them would take longer than reading them.
 */

import type { Storage } from '../../storage/storage.ts';
import type { Qcow2Metadata } from '../open-qcow2.ts';
import type { WorkLimit } from '../work-limit.ts';

/** What is held of all tables together. */
const POOL_BYTES = 16 * 1024 * 1024;
const MAX_SLICE_BYTES = 64 * 1024;
/** A sector: however many tables there are. */
const MIN_SLICE_BYTES = 512;
/** Two entries that stand for tables that are not there, in front of all others. */
const CONSTANT_BYTES = 32;

/** Rows of one table: where the first one is, and how far the next one is from it, in bytes of `L2Rows.bytes`. */
export interface Rows {
  readonly at: number;
  readonly stepBytes: number;
}

export class L2Rows {
  /** 8, or 16 with extended L2 entries. */
  readonly entryBytes: number;
  /** Rows of a whole table. */
  readonly tableRowCount: number;
  bytes = Buffer.alloc(0);
  /** The same memory. */
  words = new Int32Array(0);
  /** Stands for a table that is not there: nothing is allocated. */
  readonly none: Rows = { at: 0, stepBytes: 0 };
  /** Stands for what lies behind the end of a disk: zeros. */
  readonly zeros: Rows = { at: 16, stepBytes: 0 };
  readonly #storage: Storage;
  readonly #clusterBytes: number;
  readonly #limit: WorkLimit | undefined;
  #sliceBytes = 0;

  constructor(storage: Storage, { clusterBytes, hasExtendedL2 }: Qcow2Metadata, limit?: WorkLimit) {
    this.#storage = storage;
    this.#clusterBytes = clusterBytes;
    this.entryBytes = hasExtendedL2 ? 16 : 8;
    this.tableRowCount = clusterBytes / this.entryBytes;
    this.#limit = limit;
  }

  /** Makes room for slices of `tableCount` tables; returns how many rows a slice has. */
  reserve(tableCount: number): number {
    const fitting = 2 ** Math.floor(Math.log2(POOL_BYTES / Math.max(1, tableCount)));
    this.#sliceBytes = Math.max(MIN_SLICE_BYTES, Math.min(fitting, MAX_SLICE_BYTES, this.#clusterBytes));
    const neededBytes = CONSTANT_BYTES + tableCount * this.#sliceBytes;
    if (this.bytes.length < neededBytes) {
      this.words = new Int32Array(neededBytes / 4);
      this.bytes = Buffer.from(this.words.buffer);
      // The zero flag of an entry (bit 0), or the zero bits of all its subclusters.
      const { at } = this.zeros;
      if (this.entryBytes === 8) this.bytes.writeUInt32BE(1, at + 4);
      else this.bytes.writeUInt32BE(0xffff_ffff, at + 8);
    }
    return this.#sliceBytes / this.entryBytes;
  }

  /** The rows that `load` put into the place of a table. */
  rows(table: number): Rows {
    return { at: CONSTANT_BYTES + table * this.#sliceBytes, stepBytes: this.entryBytes };
  }

  /**
   * Reads one slice of the table at `l2Offset`, from `firstRow` on, into the place `table`. False if the file ends before: the rest
   * of the rows are empty then.
   * @throws Qcow2fsError IO; UNSUPPORTED as `WorkLimit.spend`.
   */
  load(table: number, l2Offset: number, firstRow: number): boolean {
    const length = this.#sliceBytes;
    // Each entry is looked at too.
    this.#limit?.spendRead(length * 2);
    const start = this.rows(table).at;
    const count = this.#storage.readUpTo(this.bytes, start, length, l2Offset + firstRow * this.entryBytes);
    this.bytes.fill(0, start + count, start + length);
    return count === length;
  }
}
