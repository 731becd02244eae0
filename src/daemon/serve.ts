/** The life of a worker thread. */

import fs from 'node:fs';
import { parentPort } from 'node:worker_threads';
import { messageOf, Qcow2fsError } from '../errors.ts';
import type { FileSystem } from '../filesystem/file-system.ts';
import { Exchange } from '../fuse/exchange.ts';
import { runSessionLoop } from '../fuse/session-loop.ts';
import { WorkerControl } from '../fuse/worker-control.ts';
import type { ServedImages } from './served-images.ts';
import type { WorkerData, WorkerMessage } from './worker-messages.ts';
import { kernelThreadId } from './worker-placement.ts';

/** Makes the file system and serves it until the mount ends. Blocks its thread: nothing asynchronous runs meanwhile. */
export async function serve(
  data: WorkerData,
  createFileSystem: (served: ServedImages) => FileSystem | Promise<FileSystem>,
): Promise<void> {
  writeStderrDirectly();
  let fileSystem: FileSystem;
  try {
    fileSystem = await createFileSystem(data.served);
  } catch (error) {
    const code = error instanceof Qcow2fsError ? error.code : 'INTERNAL';
    post({ type: 'failed', code, message: messageOf(error) });
    return;
  }
  const control = new WorkerControl(data.control);
  post({ type: 'ready', threadId: kernelThreadId() });
  const fd = control.waitForMount();
  const end = runSessionLoop(fd, new Exchange(fileSystem, data.options), control, data.slot, {
    onInitialized: (outcome) => post({ type: 'initialized', outcome }),
    onLastWorkerBusy: () => post({ type: 'growth-wanted' }),
  });
  post({ type: 'ended', end });
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
