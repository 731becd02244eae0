/** What has to be true of a mountpoint before anything is started. */

import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { notUtf8Hint } from '../common/names.ts';
import { messageOf, Qcow2fsError, systemCodeOf } from '../errors.ts';
import { FSTYPE } from '../fuse/kernel-mount.ts';
import { isRoot } from '../fuse/mounter.ts';
import type { Mount } from '../fuse/mountinfo.ts';
import { unmountLazily } from '../fuse/unmount.ts';
import { findDaemons, hasEnded } from './find-daemons.ts';
import type { MountOptions } from './mount-options.ts';
import { findMountAt, resolveSymlinks } from './mountpoint-path.ts';

/** The type of a mount on which an automounter (systemd) waits for what it has just asked for. */
export const AUTOFS = 'autofs';

/**
 * Returns the mountpoint as the kernel will name it. A mount of ours whose daemon is dead is removed from it first.
 * @throws Qcow2fsError MOUNT.
 */
export async function checkMountpoint(options: MountOptions): Promise<string> {
  const { mountpoint, imagePaths, isNonEmptyAllowed } = options;
  const mount = findMountAt(mountpoint);
  if (mount !== undefined && mount.fsType !== AUTOFS) await removeDeadMount(mount, mountpoint);
  const stat = requireDirectory(mountpoint);
  if (!isRoot()) requireOwnDirectory(mountpoint, stat);
  const resolved = resolveSymlinks(mountpoint);
  const hidden = imagePaths.find((imagePath) => isBelow(resolved, imagePath));
  if (hidden !== undefined) {
    throw refuse(mountpoint, `the image ${hidden} lies in it, and the mount would hide it; choose another directory`);
  }
  for (const [what, file] of filesToWrite(options)) {
    if (file !== undefined && isBelow(resolved, file)) {
      throw refuse(mountpoint, `${what} ${file} would lie in it, and the mount would hide it; choose another file`);
    }
  }
  // Worker threads are started later too: their scripts would then be looked for in the mount that they serve.
  if (isBelow(resolved, fileURLToPath(import.meta.url)) || isBelow(resolved, process.execPath)) {
    throw refuse(mountpoint, 'this program lies in it, and the mount would hide it; choose another directory');
  }
  if (isNonEmptyAllowed !== true) requireEmpty(mountpoint);
  return resolved;
}

/**
 * Ordinary users unmount what they have mounted themselves; root unmounts everything.
 * @throws Qcow2fsError MOUNT.
 */
export function requireOwnMount({ mountpoint, userId }: Mount, action: 'replace' | 'unmount'): void {
  if (isRoot() || userId === process.geteuid?.()) return;
  throw new Qcow2fsError(
    'MOUNT',
    `cannot ${action} the mount on ${mountpoint}: another user (uid ${userId}) made it; do it as that user or as root`,
    { data: { mountpoint } },
  );
}

/**
 * True when the daemon behind a mount is gone. Asks the file system, so never for a mount of this process: and by statfs(2),
 * since the attributes of its root may be in the kernel's cache.
 */
export function isDead(mount: Mount): boolean {
  // One that is there but does not answer, since somebody stopped it, would never let statfs(2) return.
  if (findDaemons(mount.mountpoint, mount.userId).some((pid) => !hasEnded(pid))) return false;
  try {
    fs.statfsSync(mount.mountpoint);
    return false;
  } catch (error) {
    const code = systemCodeOf(error);
    // ENOTCONN: the daemon is gone. ECONNABORTED: the connection was aborted, and the daemon has not noticed yet.
    return code === 'ENOTCONN' || code === 'ECONNABORTED';
  }
}

function filesToWrite({ logFile, scratch }: MountOptions): (readonly [what: string, file: string | undefined])[] {
  return [
    ['the log file', logFile],
    ['the delta', scratch?.deltaPath],
    ['the exported image', scratch?.export?.path],
  ];
}

async function removeDeadMount(mount: Mount, mountpoint: string): Promise<void> {
  if (mount.fsType !== FSTYPE) {
    throw refuse(mountpoint, `something (${mount.fsType}) is mounted there already; choose another directory`);
  }
  if (!isDead(mount)) {
    throw refuse(
      mountpoint,
      `${mount.source} is mounted there already; unmount it with \`qcow2fs umount ${mountpoint}\``,
    );
  }
  requireOwnMount(mount, 'replace');
  const { isOk, message } = await unmountLazily(mount);
  if (!isOk) throw refuse(mountpoint, `a mount whose daemon is dead cannot be removed: ${message}`);
  // Dead mounts may lie on top of each other.
  const next = findMountAt(mountpoint);
  if (next !== undefined && next.fsType !== AUTOFS) await removeDeadMount(next, mountpoint);
}

function requireDirectory(mountpoint: string): fs.Stats {
  let stat: fs.Stats;
  try {
    stat = fs.statSync(mountpoint);
  } catch (cause) {
    if (systemCodeOf(cause) !== 'ENOENT') throw cannotBeUsed(mountpoint, cause);
    const remedy = notUtf8Hint(mountpoint, 'choose another directory') || `; create it with \`mkdir ${mountpoint}\``;
    throw refuse(mountpoint, `it does not exist${remedy}`, cause);
  }
  if (!stat.isDirectory()) throw refuse(mountpoint, 'it is not a directory; choose an empty directory');
  return stat;
}

/** As fusermount3 sees it (check_perm in util/fusermount.c of libfuse). */
function requireOwnDirectory(mountpoint: string, { mode, uid }: fs.Stats): void {
  const isSticky = (mode & 0o1000) !== 0;
  const reason = 'as an ordinary user you can mount only on a directory that you may write to';
  if (isSticky && uid !== process.geteuid?.()) {
    throw refuse(mountpoint, `${reason} and, as it is sticky, own; choose or create one of your own`);
  }
  try {
    fs.accessSync(mountpoint, fs.constants.W_OK);
  } catch (cause) {
    throw refuse(mountpoint, `${reason}; choose or create one of your own`, cause);
  }
}

/** A mount over something is an accident more often than not: FUSE file systems have asked for `nonempty` since long. */
function requireEmpty(mountpoint: string): void {
  let names: string[];
  try {
    names = fs.readdirSync(mountpoint);
  } catch (cause) {
    throw cannotBeUsed(mountpoint, cause);
  }
  if (names.length === 0) return;
  const remedy = 'choose an empty directory, or mount with `-o nonempty`';
  throw refuse(mountpoint, `it is not empty, and the mount would hide what is in it; ${remedy}`);
}

function isBelow(folder: string, file: string): boolean {
  const relative = path.relative(folder, resolveSymlinks(path.resolve(file)));
  return relative !== '..' && !relative.startsWith('../');
}

function cannotBeUsed(mountpoint: string, cause: unknown): Qcow2fsError {
  return refuse(mountpoint, `it cannot be used: ${messageOf(cause)}; choose an empty directory`, cause);
}

function refuse(mountpoint: string, reason: string, cause?: unknown): Qcow2fsError {
  return new Qcow2fsError('MOUNT', `cannot mount on ${mountpoint}: ${reason}`, { data: { mountpoint }, cause });
}
