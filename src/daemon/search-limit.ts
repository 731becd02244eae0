/** Keeps a search that blocks the thread from being made too often. */

const REST_MS = 2_000;
/** On a machine with very many open files: no more than about a twentieth of the time is spent on searches. */
const REST_PER_SEARCH = 20;

export class SearchLimit {
  readonly #now: () => number;
  readonly #leastRestMs: number;
  #restUntil = Number.NEGATIVE_INFINITY;

  /** `now`: milliseconds of a clock that never goes back. */
  constructor(now: () => number, leastRestMs = REST_MS) {
    this.#now = now;
    this.#leastRestMs = leastRestMs;
  }

  /** What `search` gives; undefined if it is too early for it. */
  run<Result>(search: () => Result): Result | undefined {
    const start = this.#now();
    if (start < this.#restUntil) return undefined;
    const result = search();
    const end = this.#now();
    this.#restUntil = end + Math.max(this.#leastRestMs, (end - start) * REST_PER_SEARCH);
    return result;
  }
}
