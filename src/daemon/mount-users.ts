/**
 * Who keeps a mount busy, told without asking the mount itself anything: links in /proc are read, never followed, so this
 * is safe in the process that serves the mount and on a mount that is dead.
 */

import fs from 'node:fs/promises';
import { type Mount, readMounts } from '../fuse/mountinfo.ts';

/** More of them would hide what the message is about. */
const MAX_NAMED = 5;

/**
 * One line that names the users of a mount: processes with pid and command, loop devices, mounts inside of it. Empty if
 * none is seen, as when they belong to another user or another mount namespace.
 */
export async function describeMountUsers(mount: Mount): Promise<string> {
  const loopDevices = (await loopDevicesOn(mount.mountpoint)).map((name) => `loop device /dev/${name}`);
  const users = [...loopDevices, ...mountsBelow(mount.mountpoint), ...(await processesIn(mount.mountpoint))];
  const rest = users.length - MAX_NAMED;
  return [...users.slice(0, MAX_NAMED), ...(rest > 0 ? [`${rest} more`] : [])].join(', ');
}

/**
 * True if nobody is seen to use the mount but loop devices that are about to end: what was mounted from one with `-o loop` is
 * unmounted, and the kernel lets go of its file a moment later (drivers/block/loop.c, lo_release and its workqueue).
 */
export async function isUsedForAMomentOnly({ mountpoint }: Mount): Promise<boolean> {
  if (mountsBelow(mountpoint).length > 0 || (await processesIn(mountpoint)).length > 0) return false;
  const mounted = new Set(readMounts().map(({ source }) => source));
  for (const name of await loopDevicesOn(mountpoint)) {
    const isAutoclear = (await textOf(`/sys/block/${name}/loop/autoclear`)).trim() === '1';
    if (!isAutoclear || mounted.has(`/dev/${name}`)) return false;
  }
  return true;
}

async function processesIn(mountpoint: string): Promise<string[]> {
  const users: string[] = [];
  for (const pid of await namesIn('/proc')) {
    if (!/^\d+$/.test(pid) || !(await usesMount(pid, mountpoint))) continue;
    const command = (await textOf(`/proc/${pid}/comm`)).trim();
    users.push(`process ${pid} (${command})`);
  }
  return users;
}

/** An open file, a working directory, a root, a program that runs from there, or a file in memory (proc(5)). */
async function usesMount(pid: string, mountpoint: string): Promise<boolean> {
  const folder = `/proc/${pid}`;
  for (const name of ['cwd', 'root', 'exe']) if (isWithin(await targetOf(`${folder}/${name}`), mountpoint)) return true;
  for (const fd of await namesIn(`${folder}/fd`)) {
    if (isWithin(await targetOf(`${folder}/fd/${fd}`), mountpoint)) return true;
  }
  // Each name is a range of addresses, its target the file behind it.
  for (const range of await namesIn(`${folder}/map_files`)) {
    if (isWithin(await targetOf(`${folder}/map_files/${range}`), mountpoint)) return true;
  }
  return false;
}

/** Their names, as in /sys/block. */
async function loopDevicesOn(mountpoint: string): Promise<string[]> {
  const devices: string[] = [];
  for (const name of await namesIn('/sys/block')) {
    if (!name.startsWith('loop')) continue;
    const file = (await textOf(`/sys/block/${name}/loop/backing_file`)).replace(/\n$/, '');
    if (isWithin(file, mountpoint)) devices.push(name);
  }
  return devices;
}

function mountsBelow(mountpoint: string): string[] {
  return readMounts()
    .filter((mount) => mount.mountpoint.startsWith(`${mountpoint}/`))
    .map((mount) => `the mount on ${mount.mountpoint}`);
}

function isWithin(file: string, mountpoint: string): boolean {
  return file === mountpoint || file.startsWith(`${mountpoint}/`);
}

/** What ended since it was listed, or belongs to somebody else, counts as empty. */
async function namesIn(folder: string): Promise<string[]> {
  return fs.readdir(folder).catch(() => []);
}

async function targetOf(link: string): Promise<string> {
  return fs.readlink(link).catch(() => '');
}

async function textOf(file: string): Promise<string> {
  return fs.readFile(file, 'utf8').catch(() => '');
}
