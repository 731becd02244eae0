/** Mounts for tests, with the real daemon and with the one of the fixture; nothing stays behind. */

import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { findDaemons } from '../../src/daemon/find-daemons.ts';
import type { MountOptions } from '../../src/daemon/mount-options.ts';
import { mountInBackground } from '../../src/daemon/start-daemon.ts';
import { Qcow2fsError } from '../../src/errors.ts';
import { findMount } from '../../src/fuse/mountinfo.ts';
import { runCommand, tryCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

/** The compiled daemon: worker threads of it run without any loader. */
export const REAL_DAEMON = pathToFileURL(path.resolve(import.meta.dirname, '../../dist/daemon/main.js'));
export const TEST_DAEMON = pathToFileURL(path.join(import.meta.dirname, 'fixture/daemon/main.js'));
export const BACKGROUND_SCRIPT = path.join(import.meta.dirname, 'fixture/background.js');
export const FOREGROUND_SCRIPT = path.join(import.meta.dirname, 'fixture/foreground.js');

export interface Place {
  /** A temporary folder. */
  readonly folder: string;
  /** An empty directory in it. */
  readonly mountpoint: string;
}

/** Runs `body` with a place to mount on. Daemons and mounts that are left there afterwards are removed. */
export async function withPlace(body: (place: Place) => Promise<void>, name = 'mnt'): Promise<void> {
  await withTemporaryFolder(async (folder) => {
    const mountpoint = path.join(folder, name);
    fs.mkdirSync(mountpoint);
    try {
      await body({ folder, mountpoint });
    } finally {
      await removeWhatIsLeft(mountpoint);
    }
  });
}

/** Mounts the file system of the fixture; the name of the image chooses what goes wrong. */
export async function mountTestFiles(mountpoint: string, options: Partial<MountOptions> = {}): Promise<void> {
  const all = { imagePaths: ['/images/test'], mountpoint, directIo: false, ...options };
  await mountInBackground(all, { daemonEntry: TEST_DAEMON });
}

/** An image of `size` with 1 MiB of data and one snapshot, and mounts it. */
export async function mountImage(place: Place, options: Partial<MountOptions> = {}, size = '4M'): Promise<string> {
  const imagePath = makeImage(place.folder, size);
  const all = { imagePaths: [imagePath], mountpoint: place.mountpoint, directIo: false, ...options };
  await mountInBackground(all, { daemonEntry: REAL_DAEMON });
  return imagePath;
}

export function makeImage(folder: string, size = '4M'): string {
  const imagePath = path.join(folder, 'disk.qcow2');
  runCommand('qemu-img', ['create', '-q', '-f', 'qcow2', imagePath, size]);
  runCommand('qemu-io', ['-f', 'qcow2', '-c', 'write -P 0x61 0 1M', imagePath]);
  runCommand('qemu-img', ['snapshot', '-c', 'monday', imagePath]);
  return imagePath;
}

/** The pid of the one daemon of a mountpoint. */
export function daemonOf(mountpoint: string): number {
  const [pid, ...others] = findDaemons(mountpoint);
  if (pid === undefined || others.length > 0) throw new Error(`not one daemon for ${mountpoint}`);
  return pid;
}

export function isMountpoint(mountpoint: string): boolean {
  return findMount(mountpoint) !== undefined;
}

/** Waits as long as the test's own time allows. */
export async function waitUntil(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(10);
}

/** No mount and no daemon. */
export async function waitUntilGone(mountpoint: string): Promise<void> {
  await waitUntil(() => !isMountpoint(mountpoint) && findDaemons(mountpoint).length === 0);
}

/** The error that a promise fails with. */
export async function rejectionOf(promise: Promise<unknown>): Promise<Qcow2fsError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof Qcow2fsError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

async function removeWhatIsLeft(mountpoint: string): Promise<void> {
  for (const pid of findDaemons(mountpoint)) process.kill(pid, 'SIGKILL');
  await waitUntil(() => findDaemons(mountpoint).length === 0);
  while (isMountpoint(mountpoint)) tryCommand('umount', ['-l', '-c', '--', mountpoint]);
}
