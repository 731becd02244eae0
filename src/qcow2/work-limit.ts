/** Ends work that an image makes larger than its size can justify. */

import { Qcow2fsError } from '../errors.ts';
import { READ_UNITS, WorkBudget } from './work-budget.ts';

export class WorkLimit {
  readonly #budget: WorkBudget;
  readonly #what: string;

  /** `storedBytes`: what the file takes on its disk. `what` cannot be told once the limit is reached. */
  constructor(storedBytes: number, what: string) {
    this.#budget = new WorkBudget(storedBytes);
    this.#what = what;
  }

  /** @throws Qcow2fsError UNSUPPORTED at the limit. */
  spend(units: number): void {
    if (this.#budget.spend(units)) return;
    throw new Qcow2fsError(
      'UNSUPPORTED',
      `${this.#what} cannot be told: the tables are more work than those of an image of its size`,
    );
  }

  /** For a read of so many bytes. @throws Qcow2fsError as `spend`. */
  spendRead(bytes: number): void {
    this.spend(READ_UNITS + bytes);
  }
}
