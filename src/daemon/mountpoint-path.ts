/** A mountpoint as a user names it, against one as the kernel names it: absolute and without symlinks. */

import fs from 'node:fs';
import path from 'node:path';
import { findMount, type Mount } from '../fuse/mountinfo.ts';

/**
 * The mount that is seen at `mountpoint`, if there is one. Only the folder above is resolved at first: touching the
 * mountpoint itself would ask the file system on it, which may be dead.
 */
export function findMountAt(mountpoint: string): Mount | undefined {
  // `..` behind a symlink is the parent of its target, so the path must not be tidied up before it is resolved.
  const last = path.basename(mountpoint);
  if (last === '' || last === '.' || last === '..') return findMount(resolveSymlinks(mountpoint));
  const resolved = path.join(resolveSymlinks(path.dirname(mountpoint)), last);
  return findMount(resolved) ?? findMount(resolveSymlinks(mountpoint));
}

/** The absolute path without symlinks, or only made absolute where it cannot be followed. */
export function resolveSymlinks(name: string): string {
  try {
    return fs.realpathSync.native(name);
  } catch {
    return path.resolve(name);
  }
}
