/**
 * Names that lead through /proc: `/dev/stdin`, `/dev/fd/7`, `/proc/PID/fd/9`. What such a name means depends on the process that
 * follows it, or ends with the process that it is about.
 */

import fs from 'node:fs';
import path from 'node:path';
import { fileIdentity } from './file-storage.ts';

export interface ProcessName {
  /** The same file by a name that leads through no process; undefined if no such name is known. */
  readonly lasting: string | undefined;
  /** It is about this process: where another one follows it, it leads elsewhere. */
  readonly isOwn: boolean;
}

/** PROC_SUPER_MAGIC of the kernel (include/uapi/linux/magic.h). */
const PROC_SUPER_MAGIC = 0x9fa0;
/** MAXSYMLINKS of the kernel (include/linux/namei.h). */
const MAX_SYMLINK_COUNT = 40;

/** undefined for a name that leads through no process, also for one that cannot be followed so far. */
export function findProcessName(name: string): ProcessName | undefined {
  const way = followLinks(path.isAbsolute(name) ? name : `${process.cwd()}/${name}`);
  if (way === undefined) return undefined;
  return { lasting: isSameFile(name, way.text) ? way.text : undefined, isOwn: way.isOwn };
}

/**
 * Takes the links of /proc for the text that readlink(2) gives, as realpath(3) does: the kernel follows them to the file itself
 * (proc_pid_get_link in fs/proc/base.c), whatever has become of its name. Behind the last of them, the name stays as it is.
 */
function followLinks(name: string): { readonly text: string; readonly isOwn: boolean } | undefined {
  const rest = name.split('/').reverse();
  let at = '/';
  let text: string | undefined;
  let isOwn = false;
  let linkCount = 0;
  for (let next = rest.pop(); next !== undefined; next = rest.pop()) {
    const here = path.join(at, next);
    const target = readLink(here);
    if (target === undefined) {
      at = here;
      continue;
    }
    if (++linkCount > MAX_SYMLINK_COUNT) break;
    const place = target.startsWith('/') ? target : `${at}/${target}`;
    if (isInProc(at)) {
      text = [place === '/' ? '' : place, ...rest.toReversed()].join('/');
      isOwn ||= [here, place].some((each) => each.split('/').includes(String(process.pid)));
    }
    rest.push(...target.split('/').reverse());
    if (target.startsWith('/')) at = '/';
  }
  return text === undefined ? undefined : { text, isOwn };
}

/** undefined for what is no symlink, or cannot be looked at. */
function readLink(name: string): string | undefined {
  try {
    return fs.readlinkSync(name);
  } catch {
    return undefined;
  }
}

function isInProc(folder: string): boolean {
  try {
    return fs.statfsSync(folder).type === PROC_SUPER_MAGIC;
  } catch {
    return false;
  }
}

function isSameFile(one: string, other: string): boolean {
  try {
    return fileIdentity(fs.statSync(one)) === fileIdentity(fs.statSync(other));
  } catch {
    return false;
  }
}
