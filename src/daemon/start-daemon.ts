/** The side of the user's command: starts the process that serves, and waits until its mount can be used. */

import type { ChildProcess } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { exitCodeOfSignal } from '../common/exit-code-of-signal.ts';
import { spawnChild } from '../common/spawn-child.ts';
import { Qcow2fsError } from '../errors.ts';
import type { KernelMountOptions } from '../fuse/kernel-mount.ts';
import { MAX_READ_BYTES } from '../fuse/limits.ts';
import { findMount } from '../fuse/mountinfo.ts';
import { forgetLayerKeys, type LayerKey } from '../open-image/layer-key.ts';
import type { unlockImages } from '../open-image/layer-keys.ts';
import { type ChainOptions, NO_CHAIN_OPTIONS } from '../open-image/layers.ts';
import { findProcessName } from '../storage/process-name.ts';
import { AUTOFS, checkMountpoint } from './check-mountpoint.ts';
import { encodeArguments } from './daemon-arguments.ts';
import { type DaemonLog, openDaemonLog } from './daemon-log.ts';
import { KEYS_FD, sendKeys } from './key-pipe.ts';
import type { DaemonOptions, MountOptions, ScratchOptions } from './mount-options.ts';
import { resolveSymlinks } from './mountpoint-path.ts';
import { REPORT_FD, readReport } from './start-report.ts';

const STOP_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * What the main thread leaves for the garbage collector may not pile up to 16 MiB before it is collected: a daemon lives long
 * and rests most of the time. As `WORKER_LIMITS` for the workers.
 */
const SMALL_HEAP = ['--max-semi-space-size=1'];

export interface StartHooks {
  /** The daemon's script, if not the one beside this module. */
  readonly daemonEntry?: URL;
  /** A command that becomes the daemon's, which is behind it. */
  readonly wrapper?: readonly string[];
  /** The mount can be used from now on. */
  readonly onReady?: () => void;
}

/**
 * Mounts and returns when the tree can be read; a process of its own goes on serving until the mount ends.
 * @throws Qcow2fsError with what went wrong, also in the daemon; nothing is mounted then.
 */
export async function mountInBackground(options: MountOptions, hooks: StartHooks = {}): Promise<void> {
  const { daemonOptions, keys } = await prepare(options, false);
  const log = orForget(keys, () => openDaemonLog(options));
  try {
    const daemon = spawnDaemon(daemonOptions, keys, log, hooks);
    await waitUntilReady(daemon, options.mountpoint);
    hooks.onReady?.();
    reportPipe(daemon).destroy();
    daemon.unref();
  } finally {
    log.close();
  }
}

/**
 * Mounts and returns when the mount has ended, with the exit code for this process. Signals that want to stop this
 * process are passed on to the daemon. The daemon is another process here as well: one that serves can only be ended
 * from outside if something goes wrong, and the exit code has to come from somebody who still can give one.
 * @throws Qcow2fsError if the mount never could be used.
 */
export async function mountInForeground(options: MountOptions, hooks: StartHooks = {}): Promise<number> {
  const { daemonOptions, keys } = await prepare(options, true);
  const log: DaemonLog =
    options.logFile === undefined
      ? { stderr: process.stderr.fd, close: () => {} }
      : orForget(keys, () => openDaemonLog(options));
  try {
    const daemon = spawnDaemon(daemonOptions, keys, log, hooks);
    const exitCode = exitCodeOf(daemon);
    const passOn = (signal: NodeJS.Signals) => daemon.kill(signal);
    for (const signal of STOP_SIGNALS) process.on(signal, passOn);
    try {
      await waitUntilReady(daemon, options.mountpoint);
      hooks.onReady?.();
      return await exitCode;
    } finally {
      for (const signal of STOP_SIGNALS) process.off(signal, passOn);
    }
  } finally {
    log.close();
  }
}

/** A step before the keys are sent, which forgets them. */
function orForget<Result>(keys: readonly LayerKey[], step: () => Result): Result {
  try {
    return step();
  } catch (error) {
    forgetLayerKeys(keys);
    throw error;
  }
}

/**
 * What the daemon is told. Passphrases are asked for last: when nothing else can be wrong with the command.
 * @throws Qcow2fsError MOUNT for a mountpoint that cannot be used; what `unlockImages` throws.
 */
export async function prepare(
  options: MountOptions,
  isForeground: boolean,
): Promise<{ daemonOptions: DaemonOptions; keys: readonly LayerKey[] }> {
  const imagePaths = options.imagePaths.map(toDaemonPath);
  const mountpoint = await checkMountpoint(options);
  const chain = toDaemonChain(options.chain ?? NO_CHAIN_OPTIONS);
  const { passphrasesOf, scratch } = options;
  const keys = passphrasesOf === undefined ? [] : await unlock(imagePaths, passphrasesOf, chain);
  const daemonOptions: DaemonOptions = {
    imagePaths,
    mountpoint,
    directIo: options.directIo,
    transport: options.transport ?? 'auto',
    isForeground,
    chain,
    onMissing: options.onMissing ?? ('error' as const),
    isCurrentLive: options.isCurrentLive === true,
    ownership: options.ownership ?? {},
    kernel: toKernelOptions(options, imagePaths),
    ...(scratch && { scratch: toDaemonScratch(scratch) }),
    hasKeys: keys.length > 0,
  };
  return { daemonOptions, keys };
}

/** Without passphrases nothing here looks into an image: what does is only loaded for them. */
async function unlock(...args: Parameters<typeof unlockImages>): Promise<readonly LayerKey[]> {
  const layerKeys = await import('../open-image/layer-keys.ts');
  return await layerKeys.unlockImages(...args);
}

function toKernelOptions(
  { kernel = {}, maxReadBytes, scratch }: MountOptions,
  [first = '', ...others]: readonly string[],
): KernelMountOptions {
  // Not all of them: the kernel takes 255 bytes (fsconfig(2)).
  const name = others.length === 0 ? first : `${first}+${others.length}`;
  const { allowOther = false, extra = [], source = name } = kernel;
  const isWritable = scratch !== undefined;
  // The buffers of the workers are made for MAX_READ_BYTES.
  const isSmaller = maxReadBytes !== undefined && maxReadBytes < MAX_READ_BYTES;
  return { allowOther, isWritable, extra: isSmaller ? [...extra, `max_read=${maxReadBytes}`] : extra, source };
}

function toDaemonChain({ backingPath, dataFilePath, ...chain }: ChainOptions): ChainOptions {
  return {
    ...chain,
    ...(backingPath !== undefined && { backingPath: backingPath && toDaemonPath(backingPath) }),
    ...(dataFilePath !== undefined && { dataFilePath: toDaemonPath(dataFilePath) }),
  };
}

function toDaemonScratch({ deltaPath, ...scratch }: ScratchOptions): ScratchOptions {
  return { ...scratch, ...(deltaPath !== undefined && { deltaPath: toDaemonPath(deltaPath) }) };
}

/**
 * The path by which the daemon finds the file, which has other descriptors.
 * @throws Qcow2fsError REFUSED, NOT_FOUND for a descriptor of this process that leads to no file with a name.
 */
function toDaemonPath(file: string): string {
  const found = findProcessName(file);
  if (found === undefined || (found.lasting === undefined && !found.isOwn)) return toAbsolutePath(file);
  if (found.lasting !== undefined) return toAbsolutePath(found.lasting);
  const data = { file };
  if (!fs.existsSync(file)) throw new Qcow2fsError('NOT_FOUND', `${file}: no such file`, { data });
  throw new Qcow2fsError('REFUSED', `${file} is a descriptor of this process alone: name the file`, { data });
}

/**
 * The path for a process with another working directory. It is only tidied up where that leads to the same folder: behind a
 * symlink, `..` is the parent of its target, and the image's folder is where its backing files are looked for.
 */
function toAbsolutePath(imagePath: string): string {
  const tidy = path.resolve(imagePath);
  const exact = path.isAbsolute(imagePath) ? imagePath : `${process.cwd()}/${imagePath}`;
  const isSameFolder = resolveSymlinks(path.dirname(tidy)) === resolveSymlinks(path.dirname(exact));
  return isSameFolder ? tidy : exact;
}

/**
 * In a session of its own: signals of the terminal reach it through its starter only. Not so for an automounter: it lets
 * nobody but its own process group get at the mountpoint (Documentation/filesystems/autofs.rst), and there is no terminal.
 */
export function spawnDaemon(
  options: DaemonOptions,
  keys: readonly LayerKey[],
  log: Pick<DaemonLog, 'stderr'>,
  hooks: StartHooks,
): ChildProcess {
  const entry = hooks.daemonEntry ?? new URL('./main.js', import.meta.url);
  const own = [process.execPath, ...SMALL_HEAP, fileURLToPath(entry), ...encodeArguments(options)];
  const [command = '', ...args] = [...(hooks.wrapper ?? []), ...own];
  return orForget(keys, () => {
    const daemon = spawnChild(command, args, {
      detached: findMount(options.mountpoint)?.fsType !== AUTOFS,
      // A working directory of a daemon would keep its file system busy.
      cwd: '/',
      // TMPDIR may be relative to ours.
      env: { ...process.env, TMPDIR: path.resolve(os.tmpdir()) },
      stdio: ['ignore', log.stderr, log.stderr, 'pipe', ...(options.hasKeys ? (['pipe'] as const) : [])],
    });
    if (options.hasKeys) sendKeys(daemon.stdio[KEYS_FD] as Writable, keys);
    return daemon;
  });
}

/** @throws Qcow2fsError with what the daemon says, or MOUNT if it ends without a word. */
export async function waitUntilReady(daemon: ChildProcess, mountpoint: string): Promise<void> {
  const failed = new Promise<never>((_, reject) => daemon.once('error', reject));
  const report = await Promise.race([readReport(reportPipe(daemon)), failed]);
  if (report?.isOk === true) return;
  if (report !== undefined) throw new Qcow2fsError(report.code, report.message);
  throw new Qcow2fsError('MOUNT', `cannot mount on ${mountpoint}: the daemon ended before the mount could be used`, {
    data: { mountpoint },
  });
}

function reportPipe(daemon: ChildProcess): Readable {
  return daemon.stdio[REPORT_FD] as Readable;
}

/** As a shell tells it: 128 and the number of the signal that ended the process. */
export function exitCodeOf(daemon: ChildProcess): Promise<number> {
  return new Promise((resolve) => {
    daemon.on('exit', (code, signal) => {
      resolve(code ?? (signal === null ? 128 : exitCodeOfSignal(signal)));
    });
  });
}
