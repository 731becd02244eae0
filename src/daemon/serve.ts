/** The life of a worker thread. */

import fs from 'node:fs';
import { parentPort, receiveMessageOnPort } from 'node:worker_threads';
import { warn } from '../common/logging.ts';
import { allowDirectCalls } from '../common/system-calls.ts';
import { messageOf, Qcow2fsError } from '../errors.ts';
import type { FileSystem } from '../filesystem/file-system.ts';
import { Exchange } from '../fuse/exchange.ts';
import { runSessionLoop } from '../fuse/session-loop.ts';
import { WorkerControl } from '../fuse/worker-control.ts';
import type { ServedImages } from './served-images.ts';
import type { Generation, WorkerData, WorkerMessage } from './worker-messages.ts';
import { workerPlacement } from './worker-placement.ts';

const MAIN_PATIENCE_MS = 30_000;

/** Makes the file system and serves it until the mount ends. Blocks its thread: nothing asynchronous runs meanwhile. */
export function serve(data: WorkerData, createFileSystem: (served: ServedImages) => FileSystem): void {
  writeStderrDirectly();
  const { slot, generation } = data;
  let fileSystem: FileSystem;
  try {
    fileSystem = createFileSystem(generation.served);
  } catch (error) {
    const code = error instanceof Qcow2fsError ? error.code : 'INTERNAL';
    post({ type: 'failed', code, message: messageOf(error) });
    return;
  }
  const control = new WorkerControl(data.control);
  post({ type: 'ready' });
  const fd = control.waitForMount();
  const exchange = new Exchange(fileSystem, data.options);
  const renew = (): boolean => {
    const received = receiveGeneration(control, slot);
    if (received === undefined) return false;
    exchange.fileSystem = createFileSystem(received.served);
    control.adopt(slot, received.number);
    return true;
  };
  exchange.renewFileSystem = (patienceMs) => control.awaitAnnouncement(slot, patienceMs) && renew();
  control.enter(slot, generation.number);
  // In the loop, the thread sits in read(2), and ends by the end of the mount.
  allowDirectCalls(workerPlacement(slot));
  const end = runSessionLoop(fd, exchange, control, slot, {
    onInitialized: (outcome) => post({ type: 'initialized', outcome }),
    onLastWorkerBusy: () => post({ type: 'growth-wanted' }),
    onOutdated: renew,
  });
  post({ type: 'ended', end });
}

/**
 * Main never waits for a worker, so a worker may wait for main. But main may hang in a system call on a file system that
 * hangs: then callers get an error, as what was served before may be closed already. undefined if nothing came.
 */
function receiveGeneration(control: WorkerControl, slot: number): Generation | undefined {
  post({ type: 'outdated' });
  if (!control.awaitDelivery(slot, MAIN_PATIENCE_MS)) {
    warn('the main thread does not answer: a request fails with EIO');
    return undefined;
  }
  let newest: Generation | undefined;
  // One that came too late may be before it.
  for (let next = receive(); next !== undefined; next = receive()) newest = next;
  return newest;
}

function receive(): Generation | undefined {
  return parentPort === null ? undefined : (receiveMessageOnPort(parentPort)?.message as Generation | undefined);
}

function post(message: WorkerMessage): void {
  parentPort?.postMessage(message);
}

/**
 * The stderr of a worker passes through main, and its event loop has to turn between two writes (lib/internal/worker/io.js,
 * WritableWorkerStdio); here it never turns, and all lines but the first would stay in the worker.
 */
function writeStderrDirectly(): void {
  process.stderr.write = (chunk: string | Uint8Array): boolean => {
    try {
      fs.writeSync(2, typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString());
    } catch {
      // A log that cannot be written must not fail the request that had something to say.
    }
    return true;
  };
}
