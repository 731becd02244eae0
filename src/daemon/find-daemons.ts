/** Which processes serve a mountpoint: told from their command lines, so there is no pid file that could be wrong. */

import fs from 'node:fs';
import path from 'node:path';
import { systemCodeOf } from '../errors.ts';
import type { DaemonOptions, ScratchOptions } from './mount-options.ts';

/** The end of the path of a daemon's script; its next argument is as in `daemon-arguments.ts`. */
const SCRIPT = path.join('daemon', 'main.js');

const START_TIME_INDEX = 22 - 3;

/** The pids of the daemons of user `uid` for `mountpoint` (as in mountinfo) that this process can see, the newest one last. */
export function findDaemons(mountpoint: string, uid: number | undefined = process.getuid?.()): number[] {
  return fs
    .readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => isOfUserHere(pid, uid) && daemonMountpoint(pid) === mountpoint)
    .sort((one, other) => startTimeOf(one) - startTimeOf(other));
}

/**
 * True once a process has closed all its files. Its command line is empty a little before that; and one whose parent has
 * not noticed its end stays as a zombie, with its first thread only.
 */
export function hasEnded(pid: number): boolean {
  const [state] = statFields(pid);
  try {
    return state === undefined || (state === 'Z' && fs.readdirSync(`/proc/${pid}/task`).length === 1);
  } catch {
    return true;
  }
}

/** Anybody may start a process with such a command line, and one in a container means a path of its own. */
function isOfUserHere(pid: number, uid: number | undefined): boolean {
  try {
    return fs.statSync(`/proc/${pid}`).uid === uid && isInNamespaceHere(pid);
  } catch {
    // It has ended since the listing.
    return false;
  }
}

/** Also true if the namespace is not to be seen, as without CAP_SYS_PTRACE: nothing speaks against it then. */
function isInNamespaceHere(pid: number): boolean {
  try {
    return fs.readlinkSync(`/proc/${pid}/ns/mnt`) === fs.readlinkSync('/proc/self/ns/mnt');
  } catch (error) {
    if (['EACCES', 'EPERM'].includes(systemCodeOf(error) ?? '')) return true;
    throw error;
  }
}

/** proc(5), /proc/pid/stat, field 22, in ticks since the start of the machine; 0 if the process has ended. */
function startTimeOf(pid: number): number {
  return Number(statFields(pid)[START_TIME_INDEX] ?? 0);
}

/** From the state on, field 3: the name before it may contain anything. None if the process has ended. */
function statFields(pid: number): string[] {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  } catch {
    return [];
  }
}

/** The view that a daemon serves, if it is a scratch view. */
export function scratchOf(pid: number): ScratchOptions | undefined {
  return daemonOptions(pid)?.scratch;
}

function daemonMountpoint(pid: number): string | undefined {
  return daemonOptions(pid)?.mountpoint;
}

function daemonOptions(pid: number): Partial<DaemonOptions> | undefined {
  const args = commandLine(pid);
  const script = args.findIndex((arg) => arg.endsWith(SCRIPT));
  const json = args[script + 1];
  if (script < 0 || json === undefined) return undefined;
  try {
    return JSON.parse(json) as Partial<DaemonOptions>;
  } catch {
    return undefined;
  }
}

/** Empty for a process that is gone, or about to be. */
function commandLine(pid: number): string[] {
  try {
    return fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
  } catch {
    return [];
  }
}
