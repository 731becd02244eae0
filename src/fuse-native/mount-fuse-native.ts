/** Mounts through fuse-native. Its operations run on the main thread of the process, and can run on no other. */

import fs from 'node:fs';
import { messageOf, Qcow2fsError } from '../errors.ts';
import type { FuseNativeConstructor } from './fuse-native-types.ts';
import { guardExtendedAttributes, guardOpenFileAttributes } from './load-fuse-native.ts';
import { type CurrentFileSystem, createAttributeOperations, createOperations } from './operations.ts';

export interface FuseNativeMountOptions {
  /** Words of mount(8) and libfuse: `ro`, `allow_other`, … */
  readonly words: readonly string[];
  /** What findmnt shows behind `fuse.` as the type. */
  readonly subtype: string;
  /** What findmnt shows as the source, escaped for a list of options. */
  readonly source: string;
}

/** Both the mountpoint and the list of options are cut to this by the package, without a word. */
const MAX_TEXT_BYTES = 1000;
/**
 * How long the kernel takes a name for what it was. libfuse could tell it sooner, but the package has no way to: so this is
 * how long a name outlives a change of the tree.
 */
const ENTRY_VALID_SECONDS = 0.5;
const POLL_MS = 50;

/** A mount that is served until its last user is gone. */
export interface FuseNativeMount {
  readonly ended: Promise<void>;
}

/**
 * Mounts and returns when the tree can be read.
 * @throws Qcow2fsError MOUNT.
 */
export async function mountFuseNative(
  Fuse: FuseNativeConstructor,
  current: CurrentFileSystem,
  mountpoint: string,
  options: FuseNativeMountOptions,
): Promise<FuseNativeMount> {
  const subtype = toWords(options).join(',');
  const longest = Math.max(Buffer.byteLength(subtype), Buffer.byteLength(mountpoint));
  if (longest > MAX_TEXT_BYTES) {
    throw failure(mountpoint, `fuse-native takes paths of at most ${MAX_TEXT_BYTES} bytes; use \`--transport kernel\``);
  }
  const before = deviceDescriptors();
  const fuse = new Fuse(mountpoint, createOperations(current), { timeout: false, subtype });
  guardExtendedAttributes(fuse, createAttributeOperations(current));
  guardOpenFileAttributes(fuse);
  await new Promise<void>((resolve, reject) => {
    fuse.mount((error) => {
      if (error === null || error === undefined) resolve();
      else reject(failure(mountpoint, `libfuse refused it (${messageOf(error)}), and may have said why in the log`));
    });
  });
  const [descriptor] = [...deviceDescriptors()].filter((fd) => !before.has(fd));
  return { ended: waitUntilClosed(descriptor) };
}

/** The package knows few options, and puts them one behind the other: so all go where the subtype goes. */
function toWords({ words, subtype, source }: FuseNativeMountOptions): string[] {
  return [
    subtype,
    `fsname=${source}`,
    // Numbers of inodes are those of the file system, not a count of libfuse.
    'use_ino',
    `entry_timeout=${ENTRY_VALID_SECONDS}`,
    // libfuse has one inode for a path, whatever node that is: attributes of the last one would be taken for those of the
    // next, and a file that was just opened would be read to the length of another.
    'attr_timeout=0',
    'negative_timeout=0',
    // For the same reason nothing may come out of the page cache: it belongs to that inode.
    'direct_io',
    ...words,
  ];
}

/** The package does not tell when its loop ends, but libfuse closes its device then. */
function waitUntilClosed(descriptor: string | undefined): Promise<void> {
  return new Promise((resolve) => {
    const timer = setInterval(() => {
      if (descriptor !== undefined && isDevice(descriptor)) return;
      clearInterval(timer);
      resolve();
    }, POLL_MS);
  });
}

function deviceDescriptors(): Set<string> {
  return new Set(fs.readdirSync('/proc/self/fd').filter(isDevice));
}

function isDevice(descriptor: string): boolean {
  try {
    return fs.readlinkSync(`/proc/self/fd/${descriptor}`) === '/dev/fuse';
  } catch {
    return false;
  }
}

function failure(mountpoint: string, reason: string): Qcow2fsError {
  return new Qcow2fsError('MOUNT', `cannot mount on ${mountpoint}: ${reason}`, { data: { mountpoint } });
}
