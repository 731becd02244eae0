/** What both ways to get a mount from the kernel, as root and as an ordinary user, have in common. */

import { Qcow2fsError } from '../errors.ts';
import { MAX_READ_BYTES } from './limits.ts';
import { findMount, type Mount } from './mountinfo.ts';

/** What findmnt, df and /proc/mounts show as the type; `fuse.` makes every tool treat it as FUSE. */
export const FSTYPE = 'fuse.qcow2fs';

export interface KernelMountOptions {
  /** Users other than the one who mounts get in, as far as the modes of the files let them. */
  readonly allowOther: boolean;
  readonly isWritable: boolean;
  /** Further options that mount(8) and fusermount3 both take: `noexec`, `noatime` and the like. */
  readonly extra: readonly string[];
  /** What findmnt and df show as the source. */
  readonly source: string;
}

/** A mount, and the open device through which it is served. */
export interface KernelMount {
  readonly mount: Mount;
  /** Descriptor of the device. Closing it in all threads ends the mount for its users. */
  readonly fd: number;
}

/** A way to mount, with all that it takes found and opened. */
export interface Mounter {
  /**
   * Mounts on `mountpoint` (absolute, without symlinks). Returns before the kernel's first request is answered: whoever
   * touches the mount until then waits, so this process must not.
   * @throws Qcow2fsError MOUNT.
   */
  mount(mountpoint: string, options: KernelMountOptions): Promise<KernelMount>;
}

/**
 * The options of Documentation/filesystems/fuse.rst that do not depend on who mounts. Without allow_other the kernel lets
 * in nobody but the user who mounts, and that one could open the image: modes need not be asked as well, and would only
 * keep users out who read the image by an access control list. With it, the modes decide.
 */
export function commonOptions({ allowOther, isWritable, extra }: KernelMountOptions): string[] {
  return [
    ...[isWritable ? 'rw' : 'ro', 'nosuid', 'nodev', `max_read=${MAX_READ_BYTES}`],
    ...(allowOther ? ['default_permissions', 'allow_other'] : []),
    ...extra,
  ];
}

/** @throws Qcow2fsError MOUNT: it is not where it should be. */
export function requireMount(mountpoint: string): Mount {
  const mount = findMount(mountpoint);
  if (mount?.fsType === FSTYPE) return mount;
  throw new Qcow2fsError('MOUNT', `${mountpoint} was mounted, but /proc/self/mountinfo does not list it`, {
    data: { mountpoint },
  });
}

/** @returns the error for a mount that was refused. */
export function mountError(mountpoint: string, reason: string): Qcow2fsError {
  return new Qcow2fsError('MOUNT', `cannot mount on ${mountpoint}: ${reason}`, { data: { mountpoint } });
}
