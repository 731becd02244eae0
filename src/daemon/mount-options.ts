/** What is to be mounted, where and how. */

import type { PassphraseSource } from '../open-image/layer-keys.ts';
import type { ChainOptions } from '../open-image/layers.ts';

/** How the kernel is spoken to: with its own protocol, through the package fuse-native, or what is there. */
export const TRANSPORT_CHOICES = ['auto', 'kernel', 'fuse-native'] as const;
export type TransportChoice = (typeof TRANSPORT_CHOICES)[number];

export interface MountOptions {
  readonly imagePath: string;
  readonly mountpoint: string;
  /** Reads bypass the page cache. */
  readonly directIo: boolean;
  /** `auto` unless given. */
  readonly transport?: TransportChoice;
  /** Where a daemon in the background writes its warnings; without it, to the system log. */
  readonly logFile?: string;
  /** What is said about its backing files. */
  readonly chain?: ChainOptions;
  /** Asked once if files are encrypted; without it, they are refused. */
  readonly passphrasesOf?: PassphraseSource;
}

/** What the daemon's process gets, as JSON in its second argument; both paths are absolute. */
export interface DaemonOptions {
  readonly imagePath: string;
  /** Without symlinks: as it will stand in /proc/self/mountinfo. */
  readonly mountpoint: string;
  readonly directIo: boolean;
  readonly transport: TransportChoice;
  /** The starting process stays: the daemon stops when it ends. */
  readonly isForeground: boolean;
  readonly chain: ChainOptions;
  /** Keys are on their way: see `key-pipe.ts`. */
  readonly hasKeys: boolean;
}
