/** Mounts as root, with mount(8) and no native code. */

import fs from 'node:fs';
import { DEVICE, deviceError } from './device-file.ts';
import {
  commonOptions,
  FSTYPE,
  type KernelMount,
  type KernelMountOptions,
  type Mounter,
  mountError,
  requireMount,
} from './kernel-mount.ts';
import { runTool } from './run-tool.ts';

/** The place of the device's descriptor in the process of mount(8); the mount keeps the open file, not the number. */
const CHILD_FD = 3;

/**
 * Opens the device, which belongs to no mount yet.
 * @throws Qcow2fsError MOUNT.
 */
export function openRootMounter(): Mounter {
  const fd = openDevice();
  return { mount: (mountpoint, options) => mountDevice(fd, mountpoint, options) };
}

function openDevice(): number {
  try {
    return fs.openSync(DEVICE, 'r+');
  } catch (cause) {
    throw deviceError(cause);
  }
}

async function mountDevice(fd: number, mountpoint: string, options: KernelMountOptions): Promise<KernelMount> {
  // rootmode is the S_IFMT of a directory.
  const own = [`fd=${CHILD_FD}`, 'rootmode=40000', 'user_id=0', 'group_id=0'];
  const words = [...commonOptions(options), ...own].join(',');
  // -i: no helper /sbin/mount.fuse*, which would want to start a program called like the source.
  const args = ['-i', '-t', FSTYPE, '-o', words, '--', options.source, mountpoint];
  const { isOk, message } = await runTool('mount', args, { extraFd: fd });
  if (!isOk) throw mountError(mountpoint, message);
  return { mount: requireMount(mountpoint), fd };
}
