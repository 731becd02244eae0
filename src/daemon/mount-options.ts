/** What is to be mounted, where and how. */

import type { PassphraseSource } from '../open-image/layer-keys.ts';
import type { ChainOptions } from '../open-image/layers.ts';

export const ON_MISSING = ['error', 'zero'] as const;

/**
 * What a read of bytes past the end of a file gives, where its tables say that there are some: an error, or zeros, as in
 * QEMU.
 */
export type OnMissing = (typeof ON_MISSING)[number];

export interface MountOptions {
  readonly imagePath: string;
  readonly mountpoint: string;
  /** Reads bypass the page cache. */
  readonly directIo: boolean;
  /** Where a daemon in the background writes its warnings; without it, to the system log. */
  readonly logFile?: string;
  /** What is said about its backing files. */
  readonly chain?: ChainOptions;
  /** `error` without it. */
  readonly onMissing?: OnMissing;
  /** Asked once if files are encrypted; without it, they are refused. */
  readonly passphrasesOf?: PassphraseSource;
}

/** What the daemon's process gets, as JSON in its second argument; both paths are absolute. */
export interface DaemonOptions {
  readonly imagePath: string;
  /** Without symlinks: as it will stand in /proc/self/mountinfo. */
  readonly mountpoint: string;
  readonly directIo: boolean;
  /** The starting process stays: the daemon stops when it ends. */
  readonly isForeground: boolean;
  readonly chain: ChainOptions;
  readonly onMissing: OnMissing;
  /** Keys are on their way: see `key-pipe.ts`. */
  readonly hasKeys: boolean;
}
