/** A mutex in shared memory that says who holds it, so that one whose holder has died can be freed. */

import { isMainThread, threadId } from 'node:worker_threads';
import { Qcow2fsError } from '../errors.ts';

const FREE = 0;
/**
 * The main thread frees the locks of dead threads, which it cannot do while it waits for one itself. It only takes a lock
 * when it starts and ends; this is far more than a write takes.
 */
const MAIN_PATIENCE_MS = 30_000;

export class SharedLock {
  readonly #words: Int32Array;
  readonly #index: number;
  readonly #name: string;

  /** @param name names what is locked in errors */
  constructor(words: Int32Array, index: number, name: string) {
    this.#words = words;
    this.#index = index;
    this.#name = name;
  }

  /**
   * Runs `body` while no other thread holds the lock. It must not take the lock again.
   * @throws Qcow2fsError IO in the main thread, if a holder does not give it back.
   */
  hold<Result>(body: () => Result): Result {
    this.#take();
    try {
      return body();
    } finally {
      this.#free();
    }
  }

  /** If `deadThreadId` held the lock when it died: takes it over, runs `repair` and frees it. True if it did. */
  releaseOf(deadThreadId: number, repair: () => void): boolean {
    const dead = deadThreadId + 1;
    if (Atomics.compareExchange(this.#words, this.#index, dead, threadId + 1) !== dead) return false;
    try {
      repair();
    } finally {
      this.#free();
    }
    return true;
  }

  /**
   * A worker waits without a limit: the holder is in a system call on its way to free the lock, or it is dead, and then
   * the main thread frees it.
   */
  #take(): void {
    const deadline = performance.now() + MAIN_PATIENCE_MS;
    for (;;) {
      const holder = Atomics.compareExchange(this.#words, this.#index, FREE, threadId + 1);
      if (holder === FREE) return;
      if (!isMainThread) Atomics.wait(this.#words, this.#index, holder);
      else if (performance.now() > deadline) throw this.#stuck(holder - 1);
      else Atomics.wait(this.#words, this.#index, holder, MAIN_PATIENCE_MS);
    }
  }

  #free(): void {
    Atomics.store(this.#words, this.#index, FREE);
    Atomics.notify(this.#words, this.#index, 1);
  }

  #stuck(holder: number): Qcow2fsError {
    return new Qcow2fsError(
      'IO',
      `${this.#name}: thread ${holder} has been busy with it for ${MAIN_PATIENCE_MS / 1000} s`,
      { data: { threadId: holder } },
    );
  }
}
