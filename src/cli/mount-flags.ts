/** The options of `qcow2fs mount` as they come from the command line, and what they mean for the daemon. */

import path from 'node:path';
import type { MountOptions, OnMissing, TransportChoice } from '../daemon/mount-options.ts';
import { Qcow2fsError } from '../errors.ts';
import type { ChainOptions } from '../open-image/layers.ts';
import { passphraseSource } from './passphrases.ts';

/** Those about the backing chain; `list --volumes` has them too, and `info` some of them. */
export interface ChainFlags {
  readonly allowPath?: readonly string[];
  /** false for --no-backing */
  readonly backing?: string | false;
  readonly dataFile?: string;
}

export interface MountFlags extends ChainFlags {
  readonly foreground?: boolean;
  readonly directIo?: boolean;
  readonly transport?: TransportChoice;
  readonly logFile?: string;
  readonly passphraseFile?: readonly string[];
  readonly onMissing?: OnMissing;
  readonly liveCurrent?: boolean;
  /** The lists behind each -o. */
  readonly options?: readonly string[];
  /** The rest comes from these lists only. */
  readonly allowOther?: boolean;
  readonly nonEmpty?: boolean;
  readonly uid?: number;
  readonly gid?: number;
  readonly umask?: number;
  readonly maxRead?: number;
  readonly fsname?: string;
  readonly kernelFlags?: readonly string[];
}

/** @throws Qcow2fsError USAGE for flags that name a file of one image when there are several. */
export function toMountOptions(imagePaths: readonly string[], mountpoint: string, flags: MountFlags): MountOptions {
  if (imagePaths.length > 1) requireNoFileOfOne(flags);
  const { uid, gid, umask, fsname, logFile, maxRead, transport } = flags;
  return {
    imagePaths,
    mountpoint,
    directIo: flags.directIo === true,
    passphrasesOf: passphraseSource(flags.passphraseFile ?? []),
    chain: toChainOptions(flags),
    onMissing: flags.onMissing ?? 'error',
    isCurrentLive: flags.liveCurrent === true,
    ownership: {
      ...(uid === undefined ? {} : { uid }),
      ...(gid === undefined ? {} : { gid }),
      ...(umask === undefined ? {} : { umask }),
    },
    isNonEmptyAllowed: flags.nonEmpty === true,
    kernel: {
      allowOther: flags.allowOther === true,
      extra: flags.kernelFlags ?? [],
      ...(fsname === undefined ? {} : { source: fsname }),
    },
    ...(transport === undefined ? {} : { transport }),
    ...(logFile === undefined ? {} : { logFile }),
    ...(maxRead === undefined ? {} : { maxReadBytes: maxRead }),
  };
}

function requireNoFileOfOne({ backing, dataFile }: ChainFlags): void {
  const name = typeof backing === 'string' ? '--backing' : '--data-file';
  if (typeof backing !== 'string' && dataFile === undefined) return;
  throw new Qcow2fsError('USAGE', `${name} names a file of one image, but several are given: mount that one by itself`);
}

export function toChainOptions({ allowPath = [], backing, dataFile }: ChainFlags): ChainOptions {
  return {
    allowedFolders: allowPath.map((folder) => path.resolve(folder)),
    ...(typeof backing === 'string' ? { backingPath: path.resolve(backing) } : {}),
    ...(backing === false ? { backingPath: null } : {}),
    ...(dataFile === undefined ? {} : { dataFilePath: path.resolve(dataFile) }),
  };
}
