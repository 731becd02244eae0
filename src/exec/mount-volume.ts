/** Mounts a volume of a writable view: its journal is replayed, and what that writes goes to the view. */

import fs from 'node:fs';
import os from 'node:os';
import { Qcow2fsError } from '../errors.ts';
import type { ChosenVolume } from './choose-volume.ts';
import { runProgram } from './run-program.ts';

/** Where the volume is and where it shall be. */
export interface VolumePlace {
  /** Of the volume's bytes. */
  readonly file: string;
  readonly folder: string;
}

const SECTOR_BYTES = 512;
/** The clock of the kernel's log is another one. */
const CLOCK_DIFFERENCE_S = 1;
const COMMON_OPTIONS = ['loop', 'nosuid', 'nodev'];

/**
 * fuse2fs takes an empty directory only: a new file system hides the one that the volume ($1) is in. $2: the directory.
 */
const MOUNT_IN_EMPTY = 'exec 3<>"$1" && mount -t tmpfs tmpfs "$2" && exec fuse2fs -o rw,fakeroot /proc/self/fd/3 "$2"';
/** TMPFS_MAGIC (include/uapi/linux/magic.h) */
const TMPFS_MAGIC = 0x01021994;

/** fuse2fs reads these. */
const USER_TYPES = ['ext2', 'ext3', 'ext4'];
/** e2fsck(8): errors were corrected. */
const CORRECTED = 1;
/** sh(1): there is no such program. */
const NOT_FOUND = 127;

/**
 * With the kernel, over a loop device that goes with the mount.
 * @throws Qcow2fsError MOUNT, with what mount(8) and the kernel say.
 */
export async function mountVolume({ volume, mountType }: ChosenVolume, { file, folder }: VolumePlace): Promise<void> {
  const { type, options } = mountType;
  const words = [...COMMON_OPTIONS, ...options].join(',');
  // -i: no helper /sbin/mount.TYPE, such as that of NTFS-3G.
  const startedAt = os.uptime();
  const { status, stderr } = await runProgram('mount', ['-i', '-t', type, '-o', words, '--', file, folder]);
  if (status === 0) return;
  const reason = stderr.replaceAll(`${folder}: `, '').replace(/^mount: |\.?; *dmesg\(1\) .*$/g, '');
  const logged = await kernelMessage(startedAt, volume.sizeBytes);
  throw cannotMount(volume.name, type, logged === undefined ? reason : `${reason}; the kernel says: ${logged}`);
}

/**
 * For an ordinary user who is root of a user namespace, for whom the kernel mounts no block devices: with fuse2fs.
 * @throws Qcow2fsError MOUNT, UNSUPPORTED.
 */
export async function mountAsUser({ volume, mountType }: ChosenVolume, { file, folder }: VolumePlace): Promise<void> {
  const { type } = mountType;
  if (!USER_TYPES.includes(type)) {
    throw new Qcow2fsError(
      'UNSUPPORTED',
      `${volume.name} is ${type}, and an ordinary user can mount only ${USER_TYPES.join(', ')}: run it as root`,
      { data: { volume: volume.name } },
    );
  }
  const replay = await runProgram('e2fsck', ['-fy', '-E', 'journal_only', file]);
  if (replay.status === null || replay.status > CORRECTED) {
    throw cannotMount(volume.name, type, `e2fsck: ${replay.stderr || replay.stdout.trim()}`);
  }
  const { status, stdout, stderr } = await runProgram('sh', ['-c', MOUNT_IN_EMPTY, 'sh', file, folder]);
  if (status === NOT_FOUND) {
    throw cannotMount(volume.name, type, 'fuse2fs is missing: `apt install fuse2fs`, or run it as root');
  }
  // It ends with 0 also if it could not mount.
  if (status !== 0 || fs.statfsSync(folder).type === TMPFS_MAGIC) {
    throw cannotMount(volume.name, type, `fuse2fs: ${stderr || stdout.trim()}`);
  }
}

/**
 * What the kernel's log says last of the loop device of `sizeBytes` that was made since then; undefined if it says nothing, or may
 * not be read. The device is gone, but for its first line.
 * @param since in seconds since the start of the machine
 */
async function kernelMessage(since: number, sizeBytes: number): Promise<string | undefined> {
  const log = await runProgram('dmesg', []).catch(() => undefined);
  const lines = [...(log?.stdout ?? '').matchAll(/^\[ *(\d+\.\d+)\] (.*)$/gm)]
    .filter(([, time]) => Number(time) >= since - CLOCK_DIFFERENCE_S)
    .map(([, , text = '']) => text);
  const made = new RegExp(`^(loop\\d+): detected capacity change from 0 to ${Math.floor(sizeBytes / SECTOR_BYTES)}$`);
  const first = lines.findLastIndex((line) => made.test(line));
  const [, device] = made.exec(lines[first] ?? '') ?? [];
  if (device === undefined) return undefined;
  return lines
    .slice(first + 1)
    .findLast((line) => new RegExp(`\\b${device}\\b`).test(line) && !line.startsWith(device));
}

function cannotMount(volume: string, type: string, reason: string): Qcow2fsError {
  return new Qcow2fsError('MOUNT', `cannot mount ${volume} (${type}): ${reason}`, { data: { volume } });
}
