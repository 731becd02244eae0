/** What is to be mounted, where and how. */

import type { KernelMountOptions } from '../fuse/kernel-mount.ts';
import type { PassphraseSource } from '../open-image/layer-keys.ts';
import type { ChainOptions } from '../open-image/layers.ts';
import type { OwnershipOverride } from '../tree/ownership.ts';

export const ON_MISSING = ['error', 'zero'] as const;

/**
 * What a read of bytes past the end of a file gives, where its tables say that there are some: an error, or zeros, as in
 * QEMU.
 */
export type OnMissing = (typeof ON_MISSING)[number];

/** How the kernel is spoken to: with its own protocol, through the package fuse-native, or what is there. */
export const TRANSPORT_CHOICES = ['auto', 'kernel', 'fuse-native'] as const;
export type TransportChoice = (typeof TRANSPORT_CHOICES)[number];

export interface MountOptions {
  /** At least one; several get a folder each. */
  readonly imagePaths: readonly string[];
  readonly mountpoint: string;
  /** Reads bypass the page cache. */
  readonly directIo: boolean;
  /** `auto` unless given. */
  readonly transport?: TransportChoice;
  /** Where a daemon in the background writes its warnings; without it, to the system log. */
  readonly logFile?: string;
  /** What is said about its backing files. */
  readonly chain?: ChainOptions;
  /** `error` without it. */
  readonly onMissing?: OnMissing;
  /** The current state is read even while somebody writes to the image, though it is no consistent one then. */
  readonly isCurrentLive?: boolean;
  /** Asked once if files are encrypted; without it, they are refused. */
  readonly passphrasesOf?: PassphraseSource;
  /** Instead of what follows from the image files. */
  readonly ownership?: OwnershipOverride;
  /** The mountpoint may have something in it, which the mount hides. */
  readonly isNonEmptyAllowed?: boolean;
  /** By default only the user who mounts gets in, and the source is the first image. */
  readonly kernel?: Partial<KernelMountOptions>;
  /** Instead of the states of the image; then there is one image. */
  readonly scratch?: ScratchOptions;
  /** The largest request, if it is to be smaller than usual. */
  readonly maxReadBytes?: number;
}

/** A writable, throw-away view of one state. */
export interface ScratchOptions {
  /** As the user calls it: see `findState`. */
  readonly state: string;
  /** Where the changes are kept; without it, they end with the mount. Absolute. */
  readonly deltaPath?: string;
  readonly maxDeltaBytes: number;
  /** What is made of the view when the mount has ended. */
  readonly export?: ExportOptions;
}

export interface ExportOptions {
  /** Absolute. */
  readonly path: string;
  readonly isFlat: boolean;
}

/** A view that is to be exported has its changes in a file until that is done. */
export function deltaPathOf({ deltaPath, export: target }: ScratchOptions): string | undefined {
  return deltaPath ?? (target && `${target.path}.delta`);
}

/** What the daemon's process gets, as in `daemon-arguments.ts`; all paths are absolute. */
export interface DaemonOptions {
  readonly imagePaths: readonly string[];
  /** Without symlinks: as it will stand in /proc/self/mountinfo. */
  readonly mountpoint: string;
  readonly directIo: boolean;
  readonly transport: TransportChoice;
  /** The starting process stays: the daemon stops when it ends. */
  readonly isForeground: boolean;
  readonly chain: ChainOptions;
  readonly onMissing: OnMissing;
  readonly isCurrentLive: boolean;
  readonly ownership: OwnershipOverride;
  readonly kernel: KernelMountOptions;
  readonly scratch?: ScratchOptions;
  /** Keys are on their way: see `key-pipe.ts`. */
  readonly hasKeys: boolean;
}
