/**
 * Tells the kernel what it must forget, on a thread of its own. A message waits for the reads that are under way on the
 * pages of its node (invalidate_inode_pages2 in mm/truncate.c): a worker that sent it could wait for itself, and main for a
 * worker that crashed, whose requests main has to answer. Started when it is first needed.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { warn } from '../common/logging.ts';
import { messageOf } from '../errors.ts';
import type { CacheChange } from '../filesystem/cache-change.ts';

/** For what the kernel does at once unless it waits. */
const CLOSE_PATIENCE_MS = 1000;

const ENTRY = new URL('./cache-notifier-thread.js', import.meta.url);

/** `workerData` of the thread. */
export interface NotifierData {
  /** Descriptor of the device. */
  readonly fd: number;
}

export class CacheNotifier {
  readonly #fd: number;
  #thread: Worker | undefined;

  constructor(fd: number) {
    this.#fd = fd;
  }

  /**
   * Returns at once. Never throws: the workers serve what is newer already, and who waits for them to do so closes what was
   * served before.
   */
  send(changes: readonly CacheChange[]): void {
    if (changes.length === 0) return;
    try {
      this.#thread ??= this.#start();
    } catch (error) {
      // No more threads or memory: pthread_create(3).
      warnUntold(error);
      return;
    }
    this.#thread.postMessage(changes);
  }

  /**
   * Before the descriptor is closed: its number may be another file's then. A message that waits for a request which nobody answers
   * ends when the descriptor is closed, and none comes behind it.
   */
  async close(): Promise<void> {
    await Promise.race([this.#thread?.terminate(), sleep(CLOSE_PATIENCE_MS, undefined, { ref: false })]);
  }

  #start(): Worker {
    const workerData: NotifierData = { fd: this.#fd };
    const thread = new Worker(ENTRY, { workerData });
    // What the kernel knows is out of date soon by itself; the process need not wait for this thread.
    thread.unref();
    thread.on('error', (error) => {
      warnUntold(error);
      if (this.#thread === thread) this.#thread = undefined;
    });
    return thread;
  }
}

function warnUntold(error: unknown): void {
  warn(`the kernel cannot be told about changes: ${messageOf(error)}`);
}
