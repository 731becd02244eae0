/** What a check finds: how many problems of each kind, and the first few of each in full. */

import { PROBLEM_UNITS, type WorkBudget } from '../work-budget.ts';

/** Stable names; scripts read them. */
export type ProblemKind =
  /** A field or extension of the header that keeps QEMU from opening the image. */
  | 'header'
  /** The stored refcount is higher than the number of references: space that nothing uses. */
  | 'leak'
  /** The stored refcount is lower than the number of references: the next write may overwrite what is in use. */
  | 'refcount-too-low'
  /** More references than the width of the refcounts can count. */
  | 'refcount-overflow'
  /** An entry of the refcount table is wrong, or its block is used by something else. */
  | 'refcount-block'
  /** One cluster is used for two things, and the refcount does not show it. QEMU does not see this. */
  | 'overlap'
  /** Something lies past the end of the file. */
  | 'past-end'
  /** A table or cluster does not begin at a cluster. */
  | 'unaligned'
  /** Reserved bits of an entry are set. */
  | 'reserved-bits'
  /** An L2 entry contradicts itself. */
  | 'invalid-entry'
  /** The zero flag of version 3 in an image of version 2: such a cluster cannot be read. QEMU does not see this. */
  | 'zero-flag'
  /** The flag "refcount is exactly one" of the current state is not what the refcount says. */
  | 'copied-flag'
  /** An L1 table cannot be used. */
  | 'l1-table'
  /** An entry of the snapshot table is incomplete. */
  | 'snapshot-table'
  /** An entry of a table of a persistent bitmap is invalid. */
  | 'bitmap'
  /** Something could not be checked, so that the counts are incomplete. */
  | 'unchecked';

export interface Problem {
  readonly kind: ProblemKind;
  /** Where in the image file: of the cluster for a refcount, of the entry for an entry. */
  readonly offset: number;
  readonly message: string;
}

/** Bounds the list, whatever the image holds. */
const MAX_LISTED_PER_KIND = 8;

export class ProblemLog {
  corruptionCount = 0;
  leakedClusterCount = 0;
  uncheckedCount = 0;
  readonly #counts = new Map<ProblemKind, { times: number; listed: number }>();
  readonly #first: Problem[] = [];
  readonly #budget: WorkBudget;

  constructor(budget: WorkBudget) {
    this.#budget = budget;
  }

  /** `times`: how often it counts, as a table that several states share is a problem of each of them. */
  add(kind: ProblemKind, offset: number, times: number, describe: () => string): void {
    this.#budget.spend(PROBLEM_UNITS);
    const count = this.#countOf(kind);
    count.times += times;
    if (kind === 'leak') this.leakedClusterCount += times;
    else if (kind === 'unchecked') this.uncheckedCount += times;
    else this.corruptionCount += times;
    if (count.listed === MAX_LISTED_PER_KIND) return;
    count.listed += 1;
    this.#first.push({ kind, offset, message: describe() });
  }

  /** The first problems of each kind, in the order in which they were found. */
  get firstProblems(): readonly Problem[] {
    return this.#first;
  }

  get countsByKind(): Readonly<Partial<Record<ProblemKind, number>>> {
    return Object.fromEntries([...this.#counts].map(([kind, { times }]) => [kind, times]));
  }

  #countOf(kind: ProblemKind): { times: number; listed: number } {
    const known = this.#counts.get(kind);
    if (known !== undefined) return known;
    const count = { times: 0, listed: 0 };
    this.#counts.set(kind, count);
    return count;
  }
}
