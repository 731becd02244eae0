/** What a daemon has in use. */

import fs from 'node:fs';
import { expect } from 'vitest';
import { MAX_WORKER_COUNT, START_WORKER_COUNT } from '../../src/fuse/worker-control.ts';
import { openFilesOf } from './descriptors.ts';

/** An event loop of libuv, of which each worker has one: epoll, eventfd, and a pipe for signals. */
const LOOP_DESCRIPTOR_COUNT = 4;

/** What a worker takes once it has compiled code and filled caches. */
export const WORKER_BYTES = 24 * 1024 * 1024;

export interface DaemonResources {
  /** Threads with an event loop: main, and the workers. */
  readonly loopCount: number;
  /** Descriptors without those of event loops. */
  readonly descriptorCount: number;
  /** Threads without an event loop. */
  readonly threadCount: number;
}

export function resourcesOf(pid: number): DaemonResources {
  const files = openFilesOf(pid);
  const loopCount = files.filter((target) => target === 'anon_inode:[eventpoll]').length;
  return {
    loopCount,
    descriptorCount: files.length - loopCount * LOOP_DESCRIPTOR_COUNT,
    threadCount: fs.readdirSync(`/proc/${pid}/task`).length - loopCount,
  };
}

/** The same, but for workers: on a busy machine a daemon may find that it needs more of them. */
export function expectSameResources(before: DaemonResources, after: DaemonResources): void {
  expect(after).toEqual({ ...before, loopCount: after.loopCount });
  const added = after.loopCount - before.loopCount;
  expect(added).toBeGreaterThanOrEqual(0);
  expect(added).toBeLessThanOrEqual(MAX_WORKER_COUNT - START_WORKER_COUNT);
}

/** Of memory. */
export function residentBytes(pid: number): number {
  const kibibytes = /^VmRSS:\s+(\d+) kB$/m.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Number(kibibytes) * 1024;
}
