/**
 * Keeps the workers of a small machine from meeting on one CPU.
 *
 * A reader sleeps until its reply comes, and the scheduler likes to put a woken thread beside the one that woke it. On a
 * machine with two CPUs both workers then often share one, and the other idles between two wake-ups: with four readers at
 * once, random reads of 4 KiB came at 65 to 110 thousand per second, in phases of seconds; with a CPU for each worker
 * they come at about 100 thousand. With more CPUs than workers there is always a place to go, and the scheduler is left
 * alone. So it is once a worker computes: readers that do so as well (sha256sum) then share a CPU with one worker, while that
 * of the other idles.
 */

import { spawn } from 'node:child_process';
import fs from 'node:fs';
import { createLogger } from '../common/logging.ts';
import { messageOf } from '../errors.ts';

const log = createLogger('daemon');

/** The kernel's id of the calling thread; undefined where /proc does not tell. */
export function kernelThreadId(): number | undefined {
  try {
    // "PID/task/TID", see proc(5).
    return Number(fs.readlinkSync('/proc/thread-self').split('/').at(-1));
  } catch {
    return undefined;
  }
}

/** Where the workers of a process run. Nothing here waits: without taskset the workers are only slower. */
export class WorkerPlacement {
  readonly #workerCount: number;
  readonly #bound = new Map<number, { threadId: number; done: Promise<void> }>();
  #isFree = false;

  /** `workerCount`: those that may be bound. */
  constructor(workerCount: number) {
    this.#workerCount = workerCount;
  }

  /** Binds the worker in `slot` to a CPU of its own, if there are just as many as workers. */
  bind(slot: number, threadId: number): void {
    const cpus = allowedCpus();
    const cpu = cpus[slot];
    if (this.#isFree || cpus.length !== this.#workerCount || cpu === undefined) return;
    this.#bound.set(slot, { threadId, done: setCpus(threadId, [cpu]) });
  }

  /** From now on the scheduler decides. */
  releaseAll(): void {
    this.#isFree = true;
    for (const [slot, { threadId, done }] of this.#bound) {
      done.then(() => {
        if (this.#bound.delete(slot)) setCpus(threadId, allowedCpus());
      });
    }
  }

  /** The worker in `slot` has ended, and the id of its thread may become that of another one. */
  forget(slot: number): void {
    this.#bound.delete(slot);
  }
}

/** Resolves when it is done, or cannot be. Node.js has no sched_setaffinity(2). */
function setCpus(threadId: number, cpus: readonly number[]): Promise<void> {
  const list = cpus.join(',');
  const child = spawn('taskset', ['-c', '-p', list, String(threadId)], { stdio: 'ignore' });
  return new Promise((resolve) => {
    child.on('error', (error) => {
      log('thread %d is not bound to CPU %s: %s', threadId, list, messageOf(error));
      resolve();
    });
    child.on('exit', (status) => {
      log('thread %d on CPU %s: taskset ends with %s', threadId, list, status);
      resolve();
    });
  });
}

/** The CPUs that this process may use, from a list such as `0-3,8`; empty where /proc does not tell. */
function allowedCpus(): number[] {
  let status: string;
  try {
    status = fs.readFileSync('/proc/self/status', 'utf8');
  } catch {
    return [];
  }
  const ranges = /^Cpus_allowed_list:\s*([\d,-]+)$/m.exec(status)?.[1]?.split(',') ?? [];
  return ranges.flatMap((range) => {
    const [first = 0, last = first] = range.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, index) => first + index);
  });
}
