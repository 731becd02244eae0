/**
 * Keeps the workers of a small machine from meeting on one CPU.
 *
 * A reader sleeps until its reply comes, and the scheduler likes to put a woken thread beside the one that woke it. On a
 * machine with two CPUs both workers then often share one, and the other idles between two wake-ups: with four readers at
 * once, random reads of 4 KiB came at 65 to 110 thousand per second, in phases of seconds; with a CPU for each worker
 * they come at about 100 thousand. With more CPUs than workers there is always a place to go, and the scheduler is left
 * alone.
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

/** Binds the worker in `slot` to a CPU of its own if there are just as many as `workerCount`; does not wait for it. */
export function placeWorker(threadId: number, slot: number, workerCount: number): void {
  const cpus = allowedCpus();
  const cpu = cpus[slot];
  if (cpus.length !== workerCount || cpu === undefined) return;
  // Node.js has no sched_setaffinity(2). Without taskset the workers are only slower.
  const child = spawn('taskset', ['-c', '-p', String(cpu), String(threadId)], { stdio: 'ignore' });
  child.on('error', (error) => log('worker %d is not bound to a CPU: %s', slot, messageOf(error)));
  child.on('exit', (status) => log('worker %d on CPU %d: taskset ends with %s', slot, cpu, status));
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
