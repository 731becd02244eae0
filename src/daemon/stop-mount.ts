/** `qcow2fs umount`. */

import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { warn } from '../common/logging.ts';
import { messageOf, Qcow2fsError } from '../errors.ts';
import { DEVICE } from '../fuse/device-file.ts';
import { FSTYPE } from '../fuse/kernel-mount.ts';
import { isRoot } from '../fuse/mounter.ts';
import type { Mount } from '../fuse/mountinfo.ts';
import { unmountIdle, unmountLazily } from '../fuse/unmount.ts';
import { isDead, requireOwnMount } from './check-mountpoint.ts';
import { type EndReport, openEndReport, readEndReport } from './end-report.ts';
import { findDaemons, hasEnded, scratchOf } from './find-daemons.ts';
import { deltaPathOf, type ScratchOptions } from './mount-options.ts';
import { describeMountUsers, isUsedForAMomentOnly } from './mount-users.ts';
import { findMountAt } from './mountpoint-path.ts';
import { listProcFolder, readProcLink } from './proc-files.ts';

const POLL_MS = 10;
/** A daemon ends some milliseconds after its mount; this is for a machine that is very busy. */
const PATIENCE_MS = 10_000;
/** How long a mount may be in use by nobody who can be seen, or who is about to end. */
const BUSY_PATIENCE_MS = 2000;
const BUSY_POLL_MS = 100;

/**
 * Removes the mount and waits until its daemon has ended, so that the image is no longer open. Where nothing is mounted,
 * it only says so: what was wanted is true.
 * @throws Qcow2fsError MOUNT: no such directory, not a mount of ours, still in use, or not allowed; IO if it is unmounted, and not all
 * that was to be kept of a scratch view is.
 */
export async function unmount(mountpoint: string): Promise<void> {
  const mount = findMountAt(mountpoint);
  if (mount === undefined) {
    requireDirectory(mountpoint);
    warn(`nothing is mounted on ${mountpoint}`);
    return;
  }
  if (mount.fsType !== FSTYPE) {
    throw refuse(mountpoint, `what is mounted there is not a qcow2 image but ${mount.fsType}; use umount`);
  }
  requireOwnMount(mount, 'unmount');
  const daemons = findDaemons(mount.mountpoint, mount.userId);
  const daemon = daemons.at(-1);
  const scratch = daemon === undefined ? undefined : scratchOf(daemon);
  const endReport = daemon === undefined ? undefined : openEndReport(daemon);
  try {
    await (isDead(mount) ? removeDead(mount) : removeLive(mount));
    await waitForEnd(mount, daemon);
    if (scratch !== undefined) requireGoodEnd(mountpoint, scratch, endReport);
  } finally {
    if (endReport !== undefined) fs.closeSync(endReport);
  }
}

function requireDirectory(mountpoint: string): void {
  let stat: fs.Stats | undefined;
  try {
    stat = fs.statSync(mountpoint, { throwIfNoEntry: false });
  } catch (cause) {
    throw refuse(mountpoint, `it cannot be reached: ${messageOf(cause)}`, cause);
  }
  if (stat === undefined) throw refuse(mountpoint, 'there is no such directory');
  if (!stat.isDirectory()) throw refuse(mountpoint, 'it is not a directory; name the mountpoint');
}

/** @throws Qcow2fsError IO: what was written is not all where it should be. */
function requireGoodEnd(mountpoint: string, scratch: ScratchOptions, endReport: number | undefined): void {
  const delta = deltaPathOf(scratch);
  // Nothing was to be kept.
  if (delta === undefined) return;
  const problem = findProblem(endReport, delta, scratch.export?.path);
  if (problem === undefined) return;
  throw new Qcow2fsError('IO', `${mountpoint} is unmounted, but ${problem}`, { data: { mountpoint } });
}

function findProblem(endReport: number | undefined, delta: string, exported: string | undefined): string | undefined {
  let report: EndReport | undefined;
  try {
    report = endReport === undefined ? undefined : readEndReport(endReport);
  } catch (error) {
    return `how its process has ended cannot be told: ${messageOf(error)}; the log says if something went wrong`;
  }
  if (report !== undefined) return report.problems.length === 0 ? undefined : report.problems.join('; ');
  if (endReport === undefined) {
    return 'how its process has ended cannot be seen by this user, or from here; the log says if something went wrong';
  }
  const hint = exported === undefined ? '' : `${exported} may not be whole (\`qemu-img check\`), and `;
  return `its process was killed before it was done: ${hint}only what was written before the last fsync(2) is sure to be in ${delta}`;
}

async function removeDead(mount: Mount): Promise<void> {
  const { isOk, message } = await unmountLazily(mount);
  if (!isOk) throw refuse(mount.mountpoint, message);
}

async function removeLive(mount: Mount): Promise<void> {
  const { mountpoint } = mount;
  let { result, message } = await unmountIdle(mount);
  const deadline = Date.now() + BUSY_PATIENCE_MS;
  while (result === 'busy') {
    if (Date.now() < deadline && (await isUsedForAMomentOnly(mount))) {
      // Or by somebody who is gone already, or who just copies the mounts for a namespace of his own.
      await sleep(BUSY_POLL_MS);
      ({ result, message } = await unmountIdle(mount));
      continue;
    }
    const users = await describeMountUsers(mount);
    throw refuse(
      mountpoint,
      `it is in use by ${users === '' ? 'something that this user cannot see' : users}; close that and try again, or ` +
        `detach it with \`${isRoot() ? 'umount -l' : 'fusermount3 -u -z'} ${mountpoint}\`: then it ends with its last user`,
    );
  }
  if (result === 'failed') throw refuse(mountpoint, message);
}

/**
 * A daemon of an older, detached mount on the same directory may still serve its last users: it is not waited for. One that
 * serves nobody any more and is still there has something to write, which takes as long as it takes.
 */
async function waitForEnd(mount: Mount, pid: number | undefined): Promise<void> {
  const deadline = Date.now() + PATIENCE_MS;
  while (pid !== undefined && !hasEnded(pid)) {
    if (Date.now() > deadline) requireNotServing(mount, pid);
    await sleep(POLL_MS);
  }
}

/** @throws Qcow2fsError MOUNT if the process still has the device open, or if that is not to be seen (ptrace(2)). */
function requireNotServing({ mountpoint }: Mount, pid: number): void {
  const folder = `/proc/${pid}/fd`;
  const fds = listProcFolder(folder);
  if (fds.length > 0 && !fds.some((fd) => readProcLink(path.join(folder, fd)) === DEVICE)) return;
  if (hasEnded(pid)) return;
  const why =
    fds.length > 0
      ? `still serves it to somebody: a container or service with a mount namespace of its own that was made meanwhile ` +
        `(grep -l ${mountpoint} /proc/*/mountinfo)`
      : 'is still there: whether it serves somebody, or has something to write, is not to be seen without CAP_SYS_PTRACE';
  throw new Qcow2fsError('MOUNT', `${mountpoint} is unmounted, but its daemon (pid ${pid}) ${why}`, {
    data: { mountpoint, pid },
  });
}

function refuse(mountpoint: string, reason: string, cause?: unknown): Qcow2fsError {
  return new Qcow2fsError('MOUNT', `cannot unmount ${mountpoint}: ${reason}`, { data: { mountpoint }, cause });
}
