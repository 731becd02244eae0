/**
 * The process that serves one mount, from opening the image to the end of the mount. Its main thread never touches the
 * mount: it would wait for its own workers or for itself, and could then not even be killed.
 */

import { warn } from '../common/logging.ts';
import type { FileSystem } from '../filesystem/file-system.ts';
import type { Mount } from '../fuse/mountinfo.ts';
import { unmountLazily } from '../fuse/unmount.ts';
import { startWatchdog } from '../fuse/watchdog.ts';
import { forgetLayerKeys, type LayerKey } from '../open-image/layer-key.ts';
import { chooseSession } from './choose-session.ts';
import { followSource, type Serving } from './follow-source.ts';
import { receiveKeys } from './key-pipe.ts';
import type { DaemonOptions } from './mount-options.ts';
import type { ServedImages } from './served-images.ts';
import type { Session } from './session.ts';
import { Stopper } from './stopper.ts';
import type { PoolEnd } from './worker-pool.ts';

/** Where the file system comes from. */
export interface ImageSource {
  /** `keys` are those of its encrypted files; overwritten when this is done. */
  open(options: DaemonOptions, keys: readonly LayerKey[]): Promise<ServedImages>;
  /** A thread of that id, which served it, has ended. */
  onThreadEnd?(served: ServedImages, threadId: number): void;
  /** The mount has ended, and was used. Returns the exit code of the process, early once `signal` is aborted. */
  finish?(served: ServedImages, options: DaemonOptions, signal: AbortSignal): Promise<number>;
  /** No thread uses it any more. */
  close?(served: ServedImages): void;
  /** The file system, for this thread. */
  createFileSystem(served: ServedImages): FileSystem;
  /** As `createFileSystem`, for telling what has changed from one to the next: nodes that nobody has found yet may be missing. */
  createOutline?(served: ServedImages): FileSystem;
  /** Calls `onChange` with what is to be served instead whenever that changes. */
  follow?(served: ServedImages, options: DaemonOptions, onChange: (next: ServedImages) => void): { stop(): void };
  /** No thread uses what was served before `next` any more. */
  retire?(before: ServedImages, next: ServedImages): void;
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
  const serving = { served: await openImages(options, source) };
  try {
    const { exitCode, signal } = await serveImages(options, source, serving, onReady);
    return Math.max(exitCode, (await source.finish?.(serving.served, options, signal)) ?? 0);
  } finally {
    source.close?.(serving.served);
  }
}

async function serveImages(
  options: DaemonOptions,
  source: ImageSource,
  serving: Serving,
  onReady: (stopper: Stopper) => void,
): Promise<{ exitCode: number; signal: AbortSignal }> {
  const { served } = serving;
  const onThreadEnd = (threadId: number) => source.onThreadEnd?.(serving.served, threadId);
  const poolOptions = {
    entry: source.workerEntry,
    served,
    onThreadEnd,
    options: { directIo: options.directIo, isWritable: options.kernel.isWritable },
  };
  const session = chooseSession(options.transport, poolOptions, source.createFileSystem);
  try {
    // Before the mount: what keeps it from being served leaves nothing behind.
    await session.start();
    const mounting = session.mount(options.mountpoint, options.kernel);
    const stopper = new Stopper(mounting);
    const { mount } = await mounting;
    await serveUntilReady(session, mount);
    const following = followSource(options, source, serving, session);
    try {
      const exitCode = await serveUntilEnd(session, mount, stopper, onReady);
      return { exitCode, signal: stopper.mountEnded() };
    } finally {
      following?.stop();
    }
  } catch (error) {
    await session.abandon();
    throw error;
  }
}

async function openImages(options: DaemonOptions, source: ImageSource): Promise<ServedImages> {
  const keys = options.hasKeys ? receiveKeys() : [];
  try {
    return await source.open(options, keys);
  } finally {
    forgetLayerKeys(keys);
  }
}

async function serveUntilReady(session: Session, mount: Mount): Promise<void> {
  startWatchdog(mount);
  try {
    await session.serve();
  } catch (error) {
    await unmountLazily(mount);
    throw error;
  }
}

async function serveUntilEnd(
  session: Session,
  mount: Mount,
  stopper: Stopper,
  onReady: (stopper: Stopper) => void,
): Promise<number> {
  try {
    onReady(stopper);
  } catch {
    // The process that wanted the mount is gone.
    stopper.stop();
  }
  const end = await session.ended;
  await session.close();
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
