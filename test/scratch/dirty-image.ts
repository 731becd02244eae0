/** Images of disks of machines that ran when their snapshot was taken. */

import fs from 'node:fs';
import path from 'node:path';
import { createSnapshot } from '../oracle/qemu.ts';
import { runCommand } from '../support/run-command.ts';
import { unmountLoop } from '../support/unmount-loop.ts';
import { MIB } from '../volumes/partitioned-disk.ts';

export interface DirtyFileSystem {
  readonly type: string;
  readonly mkfs: readonly [string, ...string[]];
  readonly sizeBytes: number;
  /** Two of it with one UUID can be mounted at once with these. */
  readonly options: string;
  /** A tool that finds no fault with one that is sound. */
  readonly check: readonly [string, ...string[]];
}

export const DIRTY_FILE_SYSTEMS: readonly [DirtyFileSystem, ...DirtyFileSystem[]] = [
  { type: 'ext4', mkfs: ['mkfs.ext4', '-q'], sizeBytes: 64 * MIB, options: 'loop', check: ['e2fsck', '-fn'] },
  { type: 'xfs', mkfs: ['mkfs.xfs', '-q'], sizeBytes: 300 * MIB, options: 'loop,nouuid', check: ['xfs_repair', '-n'] },
  { type: 'btrfs', mkfs: ['mkfs.btrfs', '-q'], sizeBytes: 120 * MIB, options: 'loop', check: ['btrfs', 'check'] },
];

export interface DirtyImage {
  /** With the snapshot `night`; its current state is zeros. */
  readonly image: string;
  /** The same bytes as those of the snapshot, for the kernel to recover. */
  readonly copy: string;
  /** Files that were fsynced, `file0` and so on. */
  readonly fileCount: number;
}

const FILE_COUNT = 200;

/** A file system that was copied while it was mounted and written to: what was fsynced last is in its journal only. */
export function makeDirtyImage(folder: string, { mkfs, sizeBytes }: DirtyFileSystem): DirtyImage {
  const [raw, copy, image, mounted] = ['live.raw', 'copy.raw', 'disk.qcow2', 'live'].map((name) =>
    path.join(folder, name),
  ) as [string, string, string, string];
  fs.mkdirSync(mounted);
  fs.writeFileSync(raw, '');
  fs.truncateSync(raw, sizeBytes);
  const [command, ...args] = mkfs;
  runCommand(command, [...args, raw]);
  whileMounted(raw, mounted, 'loop', () => {
    for (let index = 0; index < FILE_COUNT; index++) {
      fs.writeFileSync(`${mounted}/file${index}`, `${index}\n`.repeat(index + 1), { flush: true });
    }
    runCommand('cp', ['--sparse=always', raw, copy]);
  });
  runCommand('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', copy, image]);
  createSnapshot(image, 'night');
  runCommand('qemu-io', ['-f', 'qcow2', '-c', `write -q -z 0 ${sizeBytes}`, image]);
  return { image, copy, fileCount: FILE_COUNT };
}

/** Runs `body` while `file` is mounted on `folder`. */
export function whileMounted(file: string, folder: string, options: string, body: () => void): void {
  runCommand('mount', ['-o', options, file, folder]);
  try {
    body();
  } finally {
    unmountLoop(file, folder);
  }
}
