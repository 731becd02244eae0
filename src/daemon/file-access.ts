/** Who can read a file of the host by its path: what its mode bits alone do not tell. */

import { execFile, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { createLogger } from '../common/logging.ts';
import { messageOf, Qcow2fsError } from '../errors.ts';
import { fileIdentity, type OpenFile } from '../storage/file-storage.ts';
import { type PinnedWay, pinWay, unpinWay } from '../storage/pinned-file.ts';
import type { FileOwnership } from '../tree/ownership.ts';

const log = createLogger('daemon');

/** Column of `ls -l` behind the mode: `+` for a file with an access control list. */
const ACL_MARK_COLUMN = 10;

/**
 * The files, and then every folder on the way to one of them as a file that may be read where the folder may be passed:
 * whoever is to read the files needs all of them. A file that its name does not lead to counts as its owner's alone: who may pass
 * the folders on another way to it is not known.
 * @param mountpoint of this process, if it is mounted already; it is not touched
 */
export function accessesOf(files: readonly OpenFile[], mountpoint?: string): FileOwnership[] {
  const ways = pinWays(files, mountpoint);
  try {
    const subjects = subjectsOf(ways);
    return toAccesses(files, ways, subjects, listLines(fdsOf(subjects)));
  } finally {
    unpinWays(ways);
  }
}

/** As `accessesOf`, without keeping this thread from anything else while ls runs. */
export async function findAccesses(files: readonly OpenFile[]): Promise<FileOwnership[]> {
  const ways = pinWays(files);
  try {
    const subjects = subjectsOf(ways);
    return toAccesses(files, ways, subjects, await listLinesSoon(fdsOf(subjects)));
  } finally {
    unpinWays(ways);
  }
}

/** For each file, the way to it by its name, held on to; undefined where that does not lead to it. */
type Ways = readonly (PinnedWay | undefined)[];

function pinWays(files: readonly OpenFile[], mountpoint?: string): Ways {
  const ways: (PinnedWay | undefined)[] = [];
  try {
    for (const file of files) ways.push(tryToPinWay(file, mountpoint));
    return ways;
  } catch (error) {
    unpinWays(ways);
    throw error;
  }
}

function tryToPinWay({ path, identity }: OpenFile, mountpoint: string | undefined): PinnedWay | undefined {
  let way: PinnedWay;
  try {
    way = pinWay(path, mountpoint);
  } catch (error) {
    if (!(error instanceof Qcow2fsError)) throw error;
    log('only the owner may read it: %s', messageOf(error));
    return undefined;
  }
  if (way.file.identity === identity) return way;
  log('only the owner may read it: %s is another file by now', path);
  unpinWay(way);
  return undefined;
}

function unpinWays(ways: Ways): void {
  for (const way of ways) if (way !== undefined) unpinWay(way);
}

/** What may have an access control list. */
interface Subject {
  readonly fd: number;
  readonly stat: fs.Stats;
  readonly isFolder: boolean;
}

/** By their identities, so each file and folder once. */
function subjectsOf(ways: Ways): ReadonlyMap<string, Subject> {
  const subjects = new Map<string, Subject>();
  const add = (fd: number, isFolder: boolean) => {
    const stat = fs.fstatSync(fd);
    subjects.set(fileIdentity(stat), { fd, stat, isFolder });
  };
  for (const way of ways) {
    if (way === undefined) continue;
    add(way.file.fd, false);
    for (const fd of way.folderFds) add(fd, true);
  }
  return subjects;
}

function fdsOf(subjects: ReadonlyMap<string, Subject>): number[] {
  return [...subjects.values()].map(({ fd }) => fd);
}

function toAccesses(
  files: readonly OpenFile[],
  ways: Ways,
  subjects: ReadonlyMap<string, Subject>,
  lines: readonly string[],
): FileOwnership[] {
  const haveAcl = whichHaveAcl(fdsOf(subjects), lines);
  const acls = new Map([...subjects.keys()].map((identity, index) => [identity, haveAcl[index]]));
  return [
    ...files.map(({ identity, mode, uid, gid }, index) => ({
      mode: sureBits(mode, ways[index] === undefined ? undefined : acls.get(identity)),
      uid,
      gid,
    })),
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
  const { stdout, error } = spawnSync('ls', listArguments(fds), LIST_OPTIONS);
  if (error !== undefined) log('ls: %s', messageOf(error));
  return toLines(stdout ?? '');
}

function listLinesSoon(fds: readonly number[]): Promise<string[]> {
  if (fds.length === 0) return Promise.resolve([]);
  return new Promise((resolve) => {
    execFile('ls', listArguments(fds), LIST_OPTIONS, (error, stdout) => {
      if (error !== null) log('ls: %s', messageOf(error));
      resolve(toLines(stdout));
    });
  });
}

const LIST_OPTIONS = { encoding: 'latin1' as const, env: { ...process.env, LC_ALL: 'C' } };

/** One line for each, in their order (-U), of what the links lead to (-L): descriptors of this process. */
function listArguments(fds: readonly number[]): string[] {
  // Not process.pid: /proc may be that of a PID namespace above.
  const self = fs.readlinkSync('/proc/self');
  return ['-ldUL', '--', ...fds.map((fd) => `/proc/${self}/fd/${fd}`)];
}

function toLines(text: string): string[] {
  return text.split('\n').filter((line) => line !== '');
}

/** Moves the bits that let pass (x) to those that let read. */
function toPassage({ mode, uid, gid }: fs.Stats, hasAcl: boolean | undefined): FileOwnership {
  return { mode: (sureBits(mode, hasAcl) & 0o111) << 2, uid, gid };
}
