/** A mountpoint as a user names it, against one as the kernel names it: absolute and without symlinks. */

import fs from 'node:fs';
import path from 'node:path';
import { findMount, type Mount } from '../fuse/mountinfo.ts';

/**
 * The mount that is seen at `mountpoint`, if there is one. Only the folder above is resolved at first: touching the
 * mountpoint itself would ask the file system on it, which may be dead.
 */
export function findMountAt(mountpoint: string): Mount | undefined {
  const absolute = path.resolve(mountpoint);
  const resolved = path.join(resolveSymlinks(path.dirname(absolute)), path.basename(absolute));
  return findMount(resolved) ?? findMount(resolveSymlinks(absolute));
}

/** The path without symlinks, or as it is where it cannot be followed. */
export function resolveSymlinks(absolute: string): string {
  try {
    return fs.realpathSync.native(absolute);
  } catch {
    return absolute;
  }
}
