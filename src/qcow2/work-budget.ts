/**
 * How much work a check may be. Tables of a crafted image may lie in holes of the file or over one another, and so be far
 * larger than the file. Those of a healthy one are stored: what they take grows with what the file takes on its disk.
 *
 * A unit is the work of one byte of a table: 0.3 ns in the page cache, but 3 ns in a hole that is read for the first time.
 */

/** For any image: less than half a second. */
const BASE_UNITS = 2 ** 27;

/**
 * An image of which only the tables are stored (`preallocation=metadata`) takes the most work for its bytes, as each
 * pass walks all tables: this is enough for one of 3.5 TiB at the usual cluster size, in 14 passes. Any data of the guest
 * makes it enough for more: a cluster of 64 KiB has an entry of 8 bytes.
 */
const UNITS_PER_STORED_BYTE = 16;

/** What a read costs besides what is read, and what a problem costs that is found. */
export const READ_UNITS = 512;
export const PROBLEM_UNITS = 64;

export class WorkBudget {
  #left: number;

  /** `storedBytes`: what the file takes on its disk. */
  constructor(storedBytes: number) {
    this.#left = BASE_UNITS + storedBytes * UNITS_PER_STORED_BYTE;
  }

  /** True once more was wanted than there was: the check is to end. */
  get isSpent(): boolean {
    return this.#left < 0;
  }

  /** Takes `units` for work that is about to be done; false if it must not be. */
  spend(units: number): boolean {
    this.#left -= units;
    return this.#left >= 0;
  }
}
