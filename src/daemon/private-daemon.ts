/** A daemon with a mount namespace of its own: who enters that sees its mount, and nobody else does. */

import { setTimeout as sleep } from 'node:timers/promises';
import { readLines } from '../common/read-lines.ts';
import { Qcow2fsError } from '../errors.ts';
import { forgetLayerKeys, type LayerKey } from '../open-image/layer-key.ts';
import type { MountOptions } from './mount-options.ts';
import { exitCodeOf, prepare, spawnDaemon, waitUntilReady } from './start-daemon.ts';

/** An order to unmount is obeyed within milliseconds; this is for a machine that is very busy. */
const PATIENCE_MS = 10_000;

export interface PrivateDaemon {
  /** By which its namespaces are entered. */
  readonly pid: number;
  /** Resolves when it has ended, to its exit code. */
  readonly ended: Promise<number>;
  /** Unmounts, and returns when it has ended: nobody may be in its namespace any more. */
  stop(): Promise<void>;
}

export interface PrivateStart {
  /** A command that makes the namespace and then becomes the one behind it. */
  readonly wrapper: readonly string[];
  /** Of the image; overwritten. */
  readonly keys: readonly LayerKey[];
  /** Called with each line of what goes wrong. */
  readonly onMessage: (line: string) => void;
}

/**
 * Mounts, and returns when the tree can be read. The daemon unmounts and ends when this process does, however that ends.
 * @throws Qcow2fsError as `mountInBackground`.
 */
export async function startPrivateDaemon(options: MountOptions, start: PrivateStart): Promise<PrivateDaemon> {
  const { daemonOptions } = await prepare(options, true).catch((error) => {
    forgetLayerKeys(start.keys);
    throw error;
  });
  const daemon = spawnDaemon(
    { ...daemonOptions, hasKeys: start.keys.length > 0 },
    start.keys,
    { stderr: 'pipe' },
    start,
  );
  const ended = exitCodeOf(daemon);
  for (const stream of [daemon.stdout, daemon.stderr]) {
    if (stream !== null) readLines(stream, start.onMessage, start.onMessage);
  }
  await waitUntilReady(daemon, options.mountpoint);
  const { pid } = daemon;
  if (pid === undefined) throw new Qcow2fsError('INTERNAL', 'a daemon that runs has no process id');
  return {
    pid,
    ended,
    stop: async () => {
      daemon.kill('SIGTERM');
      const patience = new AbortController();
      const isLate = sleep(PATIENCE_MS, true, { signal: patience.signal }).catch(() => false);
      if ((await Promise.race([ended, isLate])) === true) daemon.kill('SIGKILL');
      patience.abort();
      await ended;
    },
  };
}
