/**
 * Tells whether a path leads into the mount that this process serves, without asking that mount: whoever does waits for
 * the workers, who may be waiting for main, and not even SIGKILL ends that (request_wait_answer in fs/fuse/dev.c).
 */

import fs from 'node:fs';
import path from 'node:path';

/** MAXSYMLINKS of the kernel (include/linux/namei.h): it gives up there as well. */
const MAX_SYMLINK_COUNT = 40;

/** True if `mountpoint` (absolute, without symlinks) is on the way to `name` (absolute), by the symlinks of this moment. */
export function leadsInto(mountpoint: string, name: string): boolean {
  const rest = name.split('/').reverse();
  let symlinkCount = 0;
  let at = '/';
  for (let next = rest.pop(); next !== undefined; next = rest.pop()) {
    // `at` has no symlinks, so that its parent is the one of its name.
    const here = path.join(at, next);
    if (here === mountpoint) return true;
    const target = next === '' || next === '.' || next === '..' ? undefined : readSymlink(here);
    if (target === undefined) {
      at = here;
      continue;
    }
    if (++symlinkCount > MAX_SYMLINK_COUNT) return false;
    rest.push(...target.split('/').reverse());
    if (path.isAbsolute(target)) at = '/';
  }
  return false;
}

/** undefined for what is no symlink. What cannot be looked at cannot be followed by anybody else of this process either. */
function readSymlink(name: string): string | undefined {
  try {
    return fs.readlinkSync(name);
  } catch {
    return undefined;
  }
}
