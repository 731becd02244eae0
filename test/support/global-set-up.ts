/**
 * Runs before and after all tests: says at once what is missing, gives the run a temporary folder and a user account of its own, and fails
 * the run if a mount, a loop device or a process is left behind in it.
 */

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { loopDevicesBelow, mountsBelow, processesNaming } from './leftovers.ts';
import { createOrdinaryUser, removeOrdinaryUser } from './ordinary-user.ts';
import { runCommand } from './run-command.ts';
import { MEMORY_VARIABLE } from './temporary-folder.ts';

const NEEDED_TOOLS = [
  ...['qemu-img', 'qemu-io', 'losetup', 'mkfs.ext4', 'mkfs.xfs', 'xfs_io', 'getfattr', 'setfacl', 'setpriv', 'prlimit'],
  ...[
    'mount.fuse3',
    'fusermount3',
    'unshare',
    'useradd',
    'perl',
    'sfdisk',
    'debugfs',
    'lvm',
    'sqlite3',
    'qemu-system-x86_64',
    'fio',
  ],
];

/** A daemon ends just after its mount: it gets this long. */
const GRACE_MS = 5_000;

/** A file system in memory, and how much must be free in it: some hundred MiB are needed at a time. */
const MEMORY_FOLDER = '/dev/shm';
const MIN_MEMORY_BYTES = 4 * 2 ** 30;

let runFolder: string;
let memoryFolder: string | undefined;

export async function setup(): Promise<void> {
  process.env.PATH += ':/usr/sbin:/sbin';
  // Each of the thousands of processes of Node.js would read all certificates there are, which takes longer than the rest of a start.
  delete process.env.NODE_EXTRA_CA_CERTS;
  requireEnvironment();
  await createOrdinaryUser();
  // With the symlinks resolved, as the kernel and losetup name what is below it.
  runFolder = fs.mkdtempSync(path.join(fs.realpathSync(os.tmpdir()), 'qcow2fs-test-run-'));
  // Other users must reach the mounts in it: who may read them is what some tests are about.
  fs.chmodSync(runFolder, 0o755);
  process.env.TMPDIR = runFolder;
  if (hasMemory()) {
    memoryFolder = fs.mkdtempSync(path.join(MEMORY_FOLDER, 'qcow2fs-test-run-'));
    fs.chmodSync(memoryFolder, 0o755);
    process.env[MEMORY_VARIABLE] = memoryFolder;
  }
}

export async function teardown(): Promise<void> {
  const deadline = Date.now() + GRACE_MS;
  let found = leftovers();
  while (found.length > 0 && Date.now() < deadline) {
    await sleep(50);
    found = leftovers();
  }
  removeLeftovers();
  await removeOrdinaryUser();
  for (const folder of runFolders()) fs.rmSync(folder, { recursive: true, force: true });
  if (found.length > 0) {
    process.exitCode = 1;
    throw new Error(`The tests left behind:\n${found.join('\n')}`);
  }
}

function requireEnvironment(): void {
  if (process.getuid?.() !== 0) throw new Error('The tests mount file systems: run them as root.');
  if (!fs.existsSync('/dev/fuse')) {
    throw new Error(
      '/dev/fuse is missing: load the kernel module (modprobe fuse); in a container, pass --device /dev/fuse.',
    );
  }
  if ((fs.statSync('/dev/fuse').mode & 0o666) !== 0o666) {
    throw new Error('/dev/fuse is for root only: run `chmod 0666 /dev/fuse`, which is its usual mode.');
  }
  const missing = NEEDED_TOOLS.filter((tool) => !isOnPath(tool));
  if (missing.length > 0) throw new Error(`Not installed: ${missing.join(', ')}. bin/set-up test installs them.`);
}

function isOnPath(tool: string): boolean {
  const folders = (process.env.PATH ?? '').split(':');
  return folders.some((folder) => fs.existsSync(path.join(folder, tool)));
}

function hasMemory(): boolean {
  if (!fs.existsSync(MEMORY_FOLDER)) return false;
  const { bavail, bsize } = fs.statfsSync(MEMORY_FOLDER);
  return Math.min(bavail * bsize, os.freemem()) >= MIN_MEMORY_BYTES;
}

function runFolders(): string[] {
  return memoryFolder === undefined ? [runFolder] : [runFolder, memoryFolder];
}

function leftovers(): string[] {
  return runFolders().flatMap((folder) => [
    ...mountsBelow(folder).map((mountPoint) => `mount: ${mountPoint}`),
    ...loopDevicesBelow(folder).map((device) => `loop device: ${device}`),
    ...processesNaming(folder).map((line) => `process ${line}`),
  ]);
}

/** So that one failed run does not fail the next ones too. Daemons end with their mounts. */
function removeLeftovers(): void {
  // Listed first: behind a lazy unmount, a loop device has lost the path of its file.
  const devices = runFolders().flatMap(loopDevicesBelow);
  for (const mountPoint of runFolders().flatMap(mountsBelow)) runCommand('umount', ['-l', '--', mountPoint]);
  for (const device of devices) runCommand('losetup', ['-d', device]);
}
