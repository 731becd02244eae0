/** Runs a command in the file system of one state, as it is after its recovery. Nothing is left of it afterwards. */

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createFolderForOwner } from '../common/create-for-owner.ts';
import { startPrivateDaemon } from '../daemon/private-daemon.ts';
import { messageOf, Qcow2fsError } from '../errors.ts';
import type { LayerKey } from '../open-image/layer-key.ts';
import type { ChainOptions } from '../open-image/layers.ts';
import { daemonWrapper, mayMountDevices } from './namespaces.ts';
import { type CommandStreams, runInside } from './run-inside.ts';
import type { StopSignals } from './stop-signals.ts';

/** What is run, and in what. */
export interface ExecTask {
  readonly imagePath: string;
  readonly chain: ChainOptions;
  /** Of the image; stay as they are. */
  readonly keys: readonly LayerKey[];
  /** Its name, label or UUID; null for the only one that can be mounted. */
  readonly volume: string | null;
  readonly command: readonly string[];
  readonly maxDeltaBytes: number;
}

export interface ExecHooks {
  readonly streams: CommandStreams;
  readonly signals: StopSignals;
  /** Called with each line of what goes wrong while the state is read. */
  readonly onMessage: (line: string) => void;
}

/** In a user namespace nobody may write to a file of a user that it does not know (fs/namei.c, inode_permission). */
const OWNERSHIP = { uid: 0, gid: 0 };

/**
 * Returns the exit code of the command; of a signal, if one came before the command was started.
 * @param state as `findState` takes it
 * @throws Qcow2fsError if the command could not be started: IO, and as `startPrivateDaemon` and `runInside`.
 */
export async function runInState(
  { imagePath, chain, keys, volume, command, maxDeltaBytes }: ExecTask,
  state: string,
  { streams, signals, onMessage }: ExecHooks,
): Promise<number> {
  const mountpoint = makeMountpoint(path.resolve(os.tmpdir()));
  try {
    const daemon = await startPrivateDaemon(
      {
        ...{ imagePaths: [imagePath], mountpoint, directIo: false, chain, scratch: { state, maxDeltaBytes } },
        ownership: OWNERSHIP,
      },
      { wrapper: daemonWrapper(), keys: keys.map((each) => ({ ...each, key: Buffer.from(each.key) })), onMessage },
    ).catch((error) => {
      const exitCode = signalBehind(error, signals);
      if (exitCode === undefined) throw error;
      return exitCode;
    });
    if (typeof daemon === 'number') return daemon;
    try {
      if (signals.exitCode !== undefined) return signals.exitCode;
      const task = { state, volume, command, isOrdinaryUser: !mayMountDevices() };
      return await runInside(daemon, mountpoint, task, streams, signals);
    } finally {
      await daemon.stop();
    }
  } finally {
    // What is mounted on it was so in other namespaces only.
    fs.rmdirSync(mountpoint);
  }
}

/** The exit code of a signal that ended the daemon too: one that has not got its own session yet has those of the terminal. */
function signalBehind(error: unknown, { exitCode }: StopSignals): number | undefined {
  return error instanceof Qcow2fsError && error.code === 'MOUNT' ? exitCode : undefined;
}

function makeMountpoint(folder: string): string {
  try {
    return createFolderForOwner(path.join(folder, 'qcow2fs-'));
  } catch (cause) {
    const message = `no folder can be made in ${folder}: ${messageOf(cause)}; set TMPDIR to one that can be written`;
    throw new Qcow2fsError('IO', message, { data: { folder }, cause });
  }
}
