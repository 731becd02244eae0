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

import fs from 'node:fs';
import { onFirstComputation } from '../common/computation.ts';
import type { DirectCalls } from '../common/direct-calls.ts';
import { createLogger } from '../common/logging.ts';
import { START_WORKER_COUNT } from '../fuse/worker-control.ts';

const log = createLogger('daemon');

type CpuCalls = Pick<DirectCalls, 'setCpus'>;

/**
 * For the thread of the worker in `slot`: returns what gives it a CPU of its own, where there are as many as workers at the start,
 * until it computes.
 */
export function workerPlacement(slot: number, readCpus = allowedCpus): (calls: CpuCalls) => void {
  let computes = false;
  let release: (() => void) | undefined;
  onFirstComputation(() => {
    computes = true;
    release?.();
  });
  return (calls) => {
    if (!computes) release = bind(calls, slot, readCpus);
  };
}

/** Returns what gives the thread all its CPUs back, or undefined if it keeps them. */
function bind(calls: CpuCalls, slot: number, readCpus: () => number[]): (() => void) | undefined {
  const cpus = readCpus();
  const cpu = cpus[slot];
  if (cpus.length !== START_WORKER_COUNT || cpu === undefined) return undefined;
  const isBound = calls.setCpus([cpu]);
  log('worker %d: CPU %d, %s', slot, cpu, isBound ? 'bound' : 'not bound');
  if (!isBound) return undefined;
  return () => {
    // Otherwise somebody has put it elsewhere since, and it stays there.
    const isReleased = readCpus().join() === String(cpu) && calls.setCpus(cpus);
    log('worker %d computes: %s', slot, isReleased ? 'no longer bound' : 'stays where it is');
  };
}

/** The CPUs that this thread may use, from a list such as `0-3,8`; empty where /proc does not tell. */
function allowedCpus(): number[] {
  let status: string;
  try {
    status = fs.readFileSync('/proc/thread-self/status', 'utf8');
  } catch {
    return [];
  }
  const ranges = /^Cpus_allowed_list:\s*([\d,-]+)$/m.exec(status)?.[1]?.split(',') ?? [];
  return ranges.flatMap((range) => {
    const [first = 0, last = first] = range.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, index) => first + index);
  });
}
