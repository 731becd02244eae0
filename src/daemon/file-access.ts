/** Who can read a file of the host by its path: what its mode bits alone do not tell. */

import { execFile, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { createLogger } from '../common/logging.ts';
import { decodeName } from '../common/names.ts';
import { messageOf } from '../errors.ts';
import type { OpenFile } from '../storage/file-storage.ts';
import type { FileOwnership } from '../tree/ownership.ts';

const log = createLogger('daemon');

/** Column of `ls -l` behind the mode: `+` for a file with an access control list. */
const ACL_MARK_COLUMN = 10;

// Here, a path has one character per byte (latin1): behind a symlink it need not be UTF-8.

/**
 * The files, and then every folder on the way to one of them as a file that may be read where the folder may be passed:
 * whoever is to read the files needs all of them.
 */
export function accessesOf(files: readonly OpenFile[]): FileOwnership[] {
  const places = placesOf(files);
  return toAccesses(files, places, listLines([...places.paths, ...places.folders]));
}

/** As `accessesOf`, without keeping this thread from anything else while ls runs. */
export async function findAccesses(files: readonly OpenFile[]): Promise<FileOwnership[]> {
  const places = placesOf(files);
  return toAccesses(files, places, await listLinesSoon([...places.paths, ...places.folders]));
}

/** Without symlinks. */
interface Places {
  readonly paths: readonly string[];
  readonly folders: readonly string[];
}

function placesOf(files: readonly OpenFile[]): Places {
  const paths = files.map((file) => fs.realpathSync.native(file.path, { encoding: 'buffer' }).toString('latin1'));
  return { paths, folders: [...new Set(paths.flatMap(foldersAbove))] };
}

function toAccesses(files: readonly OpenFile[], { paths, folders }: Places, lines: readonly string[]): FileOwnership[] {
  const haveAcl = whichHaveAcl([...paths, ...folders], lines);
  return [
    ...files.map(({ mode, uid, gid }, index) => ({ mode: sureBits(mode, haveAcl[index]), uid, gid })),
    ...folders.map((folder, index) => toPassage(folder, haveAcl[paths.length + index])),
  ];
}

/**
 * The bits that say who gets in. With an access control list only the owner's do: those of the group are its mask then, and
 * anybody of the others may be kept out by name (acl(5)). Where it cannot be told, there may be one.
 */
function sureBits(mode: number, hasAcl = true): number {
  return hasAcl ? mode & ~0o077 : mode;
}

/** Node.js cannot ask for access control lists; ls can. `lines` is what it says of `paths` together. */
function whichHaveAcl(paths: readonly string[], lines: readonly string[]): boolean[] {
  // A path that ls cannot take leaves no line: then nobody knows whose the others are.
  const perPath = lines.length === paths.length ? lines : paths.map((path) => listLines([path])[0]);
  return perPath.map((line) => line?.[ACL_MARK_COLUMN] !== ' ' && line?.[ACL_MARK_COLUMN] !== '.');
}

function listLines(paths: readonly string[]): string[] {
  const { stdout, error } = spawnSync('ls', listArguments(paths), LIST_OPTIONS);
  if (error !== undefined) log('ls: %s', messageOf(error));
  return toLines(stdout ?? '');
}

function listLinesSoon(paths: readonly string[]): Promise<string[]> {
  return new Promise((resolve) => {
    execFile('ls', listArguments(paths), LIST_OPTIONS, (error, stdout) => {
      if (error !== null) log('ls: %s', messageOf(error));
      resolve(toLines(stdout));
    });
  });
}

const LIST_OPTIONS = { encoding: 'latin1' as const, env: { ...process.env, LC_ALL: 'C' } };

/** One line for each path, in their order (-U) and whatever is in their names (-b). */
function listArguments(paths: readonly string[]): string[] {
  return ['-ldUb', '--', ...paths.map((path) => decodeName(path).text)];
}

function toLines(text: string): string[] {
  return text.split('\n').filter((line) => line !== '');
}

function foldersAbove(real: string): string[] {
  const folder = path.dirname(real);
  return folder === real ? [] : [folder, ...foldersAbove(folder)];
}

/** Moves the bits that let pass (x) to those that let read. */
function toPassage(folder: string, hasAcl: boolean | undefined): FileOwnership {
  const { mode, uid, gid } = fs.statSync(Buffer.from(folder, 'latin1'));
  return { mode: (sureBits(mode, hasAcl) & 0o111) << 2, uid, gid };
}
