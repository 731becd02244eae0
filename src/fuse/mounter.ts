/** The way to mount and unmount for whoever runs this process. */

import { findFusermount } from './fusermount.ts';
import type { Mounter } from './kernel-mount.ts';
import { openRootMounter } from './mount-as-root.ts';
import { openUserMounter } from './mount-as-user.ts';

export function isRoot(): boolean {
  return process.geteuid?.() === 0;
}

/** @throws Qcow2fsError MOUNT, with what is missing. */
export function openMounter(): Mounter {
  return isRoot() ? openRootMounter() : openUserMounter();
}

/**
 * The program and its arguments that unmount what is at the path that follows them. None of them asks the file system
 * anything: umount(8) without `-c` would (GETATTR, STATFS), and hang on one that no longer answers.
 * @throws Qcow2fsError MOUNT, with what is missing.
 */
export function unmountCommand(how: 'idle' | 'lazy'): readonly [string, ...string[]] {
  if (isRoot()) return ['umount', '-c', ...(how === 'lazy' ? ['-l'] : []), '--'];
  return [findFusermount(), '-u', ...(how === 'lazy' ? ['-z'] : []), '--'];
}
