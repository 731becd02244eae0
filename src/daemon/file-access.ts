/** Who can read a file of the host by its path: what its mode bits alone do not tell. */

import { type StdioOptions, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { createLogger } from '../common/logging.ts';
import { messageOf } from '../errors.ts';
import { fileIdentity, type OpenFile } from '../storage/file-storage.ts';
import { isOutOfReach, type PinnedWay, pinWay, unpinWay } from '../storage/pinned-file.ts';
import type { FileOwnership } from '../tree/ownership.ts';

const log = createLogger('daemon');

/** Column of `ls -l` behind the mode: `+` for a file with an access control list. */
const ACL_MARK_COLUMN = 10;

/**
 * The files, and then every folder on the way to one of them as a file that may be read where the folder may be passed:
 * whoever is to read the files needs all of them. A file that its name does not lead to counts as its owner's alone: who may pass
 * the folders on another way to it is not known.
 * @param mountpoint of this process, if it is mounted already; it is not touched
 * @throws Qcow2fsError IO for what is not wrong with the files: too many open ones, for instance.
 */
export function accessesOf(files: readonly OpenFile[], mountpoint?: string): FileOwnership[] {
  const subjects = holdSubjects(files, mountpoint);
  try {
    return toAccesses(files, subjects, listLines(fdsOf(subjects)));
  } finally {
    releaseSubjects(subjects);
  }
}

/** As `accessesOf`, without keeping this thread from anything else while ls runs. */
export async function findAccesses(files: readonly OpenFile[]): Promise<FileOwnership[]> {
  const subjects = holdSubjects(files);
  try {
    return toAccesses(files, subjects, await listLinesSoon(fdsOf(subjects)));
  } finally {
    releaseSubjects(subjects);
  }
}

/** A file, or a folder on the way to one, that is held on to. */
interface Subject {
  readonly fd: number;
  readonly stat: fs.Stats;
  readonly isFolder: boolean;
}

/** By their identities, so that each is there once. */
type Subjects = Map<string, Subject>;

/** Files that their names do not lead to are left out, and their folders. */
function holdSubjects(files: readonly OpenFile[], mountpoint?: string): Subjects {
  const subjects: Subjects = new Map();
  try {
    for (const file of files) {
      const way = tryToPinWay(file, mountpoint);
      if (way === undefined) continue;
      hold(subjects, way.file.fd, false);
      for (const fd of way.folderFds) hold(subjects, fd, true);
    }
    return subjects;
  } catch (error) {
    releaseSubjects(subjects);
    throw error;
  }
}

function tryToPinWay({ path, identity }: OpenFile, mountpoint: string | undefined): PinnedWay | undefined {
  let way: PinnedWay;
  try {
    way = pinWay(path, mountpoint);
  } catch (error) {
    if (!isOutOfReach(error)) throw error;
    log('only the owner may read it: %s', messageOf(error));
    return undefined;
  }
  if (way.file.identity === identity) return way;
  log('only the owner may read it: %s is another file by now', path);
  unpinWay(way);
  return undefined;
}

/** Closes what is held already. */
function hold(subjects: Subjects, fd: number, isFolder: boolean): void {
  const stat = fs.fstatSync(fd);
  const identity = fileIdentity(stat);
  if (subjects.has(identity)) fs.closeSync(fd);
  else subjects.set(identity, { fd, stat, isFolder });
}

function releaseSubjects(subjects: Subjects): void {
  for (const fd of fdsOf(subjects)) fs.closeSync(fd);
}

function fdsOf(subjects: Subjects): number[] {
  return [...subjects.values()].map(({ fd }) => fd);
}

function toAccesses(files: readonly OpenFile[], subjects: Subjects, lines: readonly string[]): FileOwnership[] {
  const haveAcl = whichHaveAcl(fdsOf(subjects), lines);
  const acls = new Map([...subjects.keys()].map((identity, index) => [identity, haveAcl[index]]));
  return [
    ...files.map(({ identity, mode, uid, gid }) => ({ mode: sureBits(mode, acls.get(identity)), uid, gid })),
    ...[...subjects].flatMap(([identity, { stat, isFolder }]) =>
      isFolder ? [toPassage(stat, acls.get(identity))] : [],
    ),
  ];
}

/**
 * The bits that say who gets in. With an access control list only the owner's do: those of the group are its mask then, and
 * anybody of the others may be kept out by name (acl(5)). Where it cannot be told, there may be one.
 */
function sureBits(mode: number, hasAcl = true): number {
  return hasAcl ? mode & ~0o077 : mode;
}

/** Node.js cannot ask for access control lists; ls can. `lines` is what it says of `fds` together. */
function whichHaveAcl(fds: readonly number[], lines: readonly string[]): boolean[] {
  // What ls cannot look at leaves no line: then nobody knows whose the others are.
  const perFd = lines.length === fds.length ? lines : fds.map((fd) => listLines([fd])[0]);
  return perFd.map((line) => line?.[ACL_MARK_COLUMN] !== ' ' && line?.[ACL_MARK_COLUMN] !== '.');
}

function listLines(fds: readonly number[]): string[] {
  if (fds.length === 0) return [];
  const { stdout, error } = spawnSync('ls', listArguments(fds), { ...inherited(fds), encoding: 'latin1' });
  if (error !== undefined) log('ls: %s', messageOf(error));
  return toLines(stdout ?? '');
}

function listLinesSoon(fds: readonly number[]): Promise<string[]> {
  if (fds.length === 0) return Promise.resolve([]);
  return new Promise((resolve) => {
    const ls = spawn('ls', listArguments(fds), inherited(fds));
    let text = '';
    ls.stdout?.setEncoding('latin1').on('data', (part: string) => {
      text += part;
    });
    ls.once('error', (error) => {
      log('ls: %s', messageOf(error));
      resolve([]);
    });
    ls.once('close', () => resolve(toLines(text)));
  });
}

/** ls gets the descriptors behind those that every process has: it could not look at them in this process if that must not be traced. */
function inherited(fds: readonly number[]) {
  return { stdio: ['ignore', 'pipe', 'ignore', ...fds] as StdioOptions, env: { ...process.env, LC_ALL: 'C' } };
}

/** One line for each, in their order (-U), of what the links lead to (-L). */
function listArguments(fds: readonly number[]): string[] {
  return ['-ldUL', '--', ...fds.map((_, index) => `/proc/self/fd/${3 + index}`)];
}

function toLines(text: string): string[] {
  return text.split('\n').filter((line) => line !== '');
}

/** Moves the bits that let pass (x) to those that let read. */
function toPassage({ mode, uid, gid }: fs.Stats, hasAcl: boolean | undefined): FileOwnership {
  return { mode: (sureBits(mode, hasAcl) & 0o111) << 2, uid, gid };
}
