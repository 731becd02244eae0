/** Mounts as root, with mount(8) and no native code. */

import fs from 'node:fs';
import { messageOf, Qcow2fsError, systemCodeOf } from '../errors.ts';
import { MAX_READ_BYTES } from './limits.ts';
import { findMount, type Mount } from './mountinfo.ts';
import { runTool } from './run-tool.ts';

/** What findmnt, df and /proc/mounts show as the type; `fuse.` makes every tool treat it as FUSE. */
export const FSTYPE = 'fuse.qcow2fs';

const DEVICE = '/dev/fuse';

/** The place of the device's descriptor in the process of mount(8); the mount keeps the open file, not the number. */
const CHILD_FD = 3;

/** What the user decides about a mount. */
export interface KernelMountOptions {
  /** Users other than the one who mounts get in, as far as the modes of the nodes let them. */
  readonly allowOther: boolean;
  /** As mount(8) takes them: `noexec`, `max_read=4096`. They win over those that every mount has. */
  readonly extra: readonly string[];
  /** What findmnt, df and /proc/mounts show as the source. */
  readonly source: string;
}

/**
 * Options of Documentation/filesystems/fuse.rst. The mode bits of the nodes decide who may read (default_permissions);
 * rootmode is the S_IFMT of a directory.
 */
const OPTIONS = [
  'ro',
  'nosuid',
  'nodev',
  `fd=${CHILD_FD}`,
  'rootmode=40000',
  'user_id=0',
  'group_id=0',
  'default_permissions',
  `max_read=${MAX_READ_BYTES}`,
];

/**
 * Opens the device. Until `mountDevice` it belongs to no mount, and read(2) on it fails with EPERM.
 * @throws Qcow2fsError MOUNT.
 */
export function openDevice(): number {
  try {
    return fs.openSync(DEVICE, 'r+');
  } catch (cause) {
    const code = systemCodeOf(cause);
    const remedy =
      code === 'ENOENT' || code === 'ENODEV' || code === 'ENXIO'
        ? 'load the kernel module with `modprobe fuse`, or give the container `--device /dev/fuse`'
        : 'run as root, and give a container `--device /dev/fuse --cap-add SYS_ADMIN`';
    throw new Qcow2fsError('MOUNT', `${DEVICE} cannot be opened: ${messageOf(cause)}; ${remedy}`, { cause });
  }
}

/**
 * Mounts what will be served through the open device `fd` on `mountpoint` (absolute, without symlinks). Returns before
 * the kernel's first request is answered: whoever touches the mount until then waits, so this process must not.
 * @throws Qcow2fsError MOUNT.
 */
export async function mountDevice(
  fd: number,
  mountpoint: string,
  { allowOther, extra, source }: KernelMountOptions,
): Promise<Mount> {
  const options = [...OPTIONS, ...(allowOther ? ['allow_other'] : []), ...extra].join(',');
  // -i: no helper /sbin/mount.fuse*, which would want to start a program called like the source.
  const { isOk, message } = await runTool('mount', ['-i', '-t', FSTYPE, '-o', options, '--', source, mountpoint], fd);
  const data = { mountpoint };
  if (!isOk) throw new Qcow2fsError('MOUNT', `cannot mount on ${mountpoint}: ${message}`, { data });
  const mount = findMount(mountpoint);
  if (mount?.fsType !== FSTYPE) {
    throw new Qcow2fsError('MOUNT', `${mountpoint} was mounted, but /proc/self/mountinfo does not list it`, { data });
  }
  return mount;
}
