/**
 * The process that serves one mount, from opening the image to the end of the mount. Its main thread never touches the
 * mount: it would wait for its own workers, and could then not even be killed.
 */

import fs from 'node:fs';
import { warn } from '../common/logging.ts';
import type { KernelMount } from '../fuse/kernel-mount.ts';
import { isRoot, openMounter } from '../fuse/mounter.ts';
import type { Mount } from '../fuse/mountinfo.ts';
import { raiseReadAhead } from '../fuse/read-ahead.ts';
import { unmountLazily } from '../fuse/unmount.ts';
import { startWatchdog } from '../fuse/watchdog.ts';
import type { LayerKey } from '../open-image/layer-keys.ts';
import type { ChainOptions } from '../open-image/layers.ts';
import { forgetLayerKeys, receiveKeys } from './key-pipe.ts';
import type { DaemonOptions } from './mount-options.ts';
import type { ServedImage } from './served-image.ts';
import { Stopper } from './stopper.ts';
import { type PoolEnd, WorkerPool } from './worker-pool.ts';

/** Where the file system comes from. */
export interface ImageSource {
  /** `keys` are those of its encrypted files; overwritten when this is done. */
  open(imagePath: string, keys: readonly LayerKey[], chain: ChainOptions): Promise<ServedImage>;
  /** No thread uses it any more. */
  close?(served: ServedImage): void;
  /** The script of a worker thread that serves it. */
  readonly workerEntry: URL;
}

/**
 * Serves until the mount ends. Returns the exit code of the process.
 * `onReady` is called when the tree can be read; if it throws, the mount is removed again.
 * @throws Qcow2fsError when the mount never could be used; nothing is mounted then.
 */
export async function runDaemon(
  options: DaemonOptions,
  source: ImageSource,
  onReady: (stopper: Stopper) => void,
): Promise<number> {
  const served = await openImage(options, source);
  const mounter = openMounter();
  const serveOptions = { directIo: options.directIo };
  const pool = new WorkerPool({ entry: source.workerEntry, served, options: serveOptions });
  try {
    // Before the mount: what keeps a worker from serving leaves nothing behind.
    await pool.start();
    const mounting = mounter.mount(options.mountpoint, {
      allowOther: isRoot(),
      extra: [],
      source: options.imagePath,
    });
    const stopper = new Stopper(mounting);
    const kernelMount = await mounting;
    await serveUntilReady(pool, kernelMount);
    return await serveUntilEnd(pool, kernelMount, stopper, onReady);
  } catch (error) {
    await pool.abandon();
    throw error;
  } finally {
    source.close?.(served);
  }
}

async function openImage(options: DaemonOptions, source: ImageSource): Promise<ServedImage> {
  const keys = options.hasKeys ? receiveKeys() : [];
  try {
    return await source.open(options.imagePath, keys, options.chain);
  } finally {
    forgetLayerKeys(keys);
  }
}

async function serveUntilReady(pool: WorkerPool, { mount, fd }: KernelMount): Promise<void> {
  startWatchdog(mount);
  try {
    await pool.serveMount(fd);
    if (isRoot()) raiseReadAhead(mount);
  } catch (error) {
    await unmountLazily(mount);
    throw error;
  }
}

async function serveUntilEnd(
  pool: WorkerPool,
  { mount, fd }: KernelMount,
  stopper: Stopper,
  onReady: (stopper: Stopper) => void,
): Promise<number> {
  try {
    onReady(stopper);
  } catch {
    // The process that wanted the mount is gone.
    stopper.stop();
  }
  const end = await pool.ended;
  // If no worker is left, this aborts the connection: who waits for a reply gets an error now.
  fs.closeSync(fd);
  return toExitCode(end, mount, stopper);
}

async function toExitCode(end: PoolEnd, mount: Mount, stopper: Stopper): Promise<number> {
  if (end === 'unmounted') return stopper.exitCode;
  warn(
    end === 'aborted'
      ? `the connection of ${mount.mountpoint} was aborted: it is unmounted now`
      : `no worker thread is left for ${mount.mountpoint}: it is unmounted now; please report this bug`,
  );
  await unmountLazily(mount);
  return 1;
}
