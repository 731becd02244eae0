/**
 * Which file it is that a list of the kernel names. A list has the device of the superblock and the kernel's own inode
 * number; /proc/PID/fdinfo/N (proc_pid_fdinfo(5)) has that inode number and the id of the mount, which mountinfo gives the
 * superblock of:
 *
 *     pos:    0
 *     flags:  02100002
 *     mnt_id: 27
 *     ino:    2147398                                                (since Linux 5.14)
 *     lock:   1: OFDLCK ADVISORY  READ -1 fe:00:2147398 100 101      (for each lock)
 *
 * None of this asks a file system anything, where stat(2) of /proc/PID/fd/N does: it must not be called for what may lie in
 * the mount that this process serves.
 */

import fs from 'node:fs';
import { readProcText, unlessUnseen } from './proc-files.ts';
import { decodeLocks, isWriterLock, type RangeLock } from './proc-locks.ts';

/** A descriptor of a process. */
export interface Descriptor {
  readonly pid: number;
  readonly fd: number;
}

export interface DescriptorInfo {
  readonly isWritable: boolean;
  readonly mountId: number;
  readonly inode: bigint | undefined;
  readonly writerLocks: readonly RangeLock[];
}

/** The image as the lists name it, and as stat(2) does. */
export interface ImageIdentity {
  /** Undefined if its mount is not in mountinfo: detached, or outside of our root directory. */
  readonly superblock: string | undefined;
  readonly mountId: number | undefined;
  readonly inode: bigint;
  readonly statDevice: bigint;
  readonly statInode: bigint;
}

/** The identity of a file that this process has open. */
export function identifyImage(fd: number): ImageIdentity {
  const { dev, ino } = fs.fstatSync(fd, { bigint: true });
  const info = decodeDescriptorInfo(readProcText(`/proc/self/fdinfo/${fd}`) ?? '');
  return {
    superblock: info && new Superblocks().find('self', info.mountId),
    mountId: info?.mountId,
    inode: info?.inode ?? ino,
    statDevice: dev,
    statInode: ino,
  };
}

/** Undefined if the descriptor is closed, or not to be seen. */
export function readDescriptorInfo({ pid, fd }: Descriptor): DescriptorInfo | undefined {
  const text = readProcText(`/proc/${pid}/fdinfo/${fd}`);
  return text === undefined ? undefined : decodeDescriptorInfo(text);
}

/** Undefined if the text says nothing of a file: the process ended while it was read. */
export function decodeDescriptorInfo(text: string): DescriptorInfo | undefined {
  const [, flags] = /^flags:\s*([0-7]+)$/m.exec(text) ?? [];
  const [, mountId] = /^mnt_id:\s*(\d+)$/m.exec(text) ?? [];
  const [, inode] = /^ino:\s*(\d+)$/m.exec(text) ?? [];
  if (flags === undefined || mountId === undefined) return undefined;
  // The two lowest bits are the access mode (O_ACCMODE); 3 can neither read nor write (open(2)).
  const accessMode = Number.parseInt(flags.slice(-1), 8) & 3;
  return {
    isWritable: accessMode === fs.constants.O_WRONLY || accessMode === fs.constants.O_RDWR,
    mountId: Number(mountId),
    inode: inode === undefined ? undefined : BigInt(inode),
    writerLocks: decodeLocks(text).filter(isWriterLock),
  };
}

/** True if a list that names this file may mean the image; several files may have one name, as in subvolumes of btrfs. */
export function isListedAs(image: ImageIdentity, { superblock, inode }: RangeLock): boolean {
  if (inode !== image.inode) return false;
  if (image.superblock !== undefined) return superblock === image.superblock;
  const device = decodeDevice(image.statDevice);
  return superblock === device || (isAnonymous(superblock) && isAnonymous(device));
}

/** True if the descriptor is one of the image, false if it is one of another file, undefined if that cannot be told. */
export function isOfImage(
  image: ImageIdentity,
  descriptor: Descriptor,
  info: DescriptorInfo,
  superblocks: Superblocks,
): boolean | undefined {
  if (info.inode !== undefined && info.inode !== image.inode) return false;
  if (info.mountId !== image.mountId) {
    const superblock = superblocks.find(descriptor.pid, info.mountId);
    if (superblock === undefined || image.superblock === undefined) return undefined;
    if (superblock !== image.superblock) return false;
  }
  if (info.inode !== undefined && decodeDevice(image.statDevice) === image.superblock) return true;
  // It lies where the image lies, so this stat waits for nobody that reading the image does not wait for.
  const stat = statDescriptor(descriptor);
  return stat && stat.dev === image.statDevice && stat.ino === image.statInode;
}

/** The superblocks of mounts, from the mountinfo of processes (proc_pid_mountinfo(5)), each read once. */
export class Superblocks {
  readonly #devices = new Map<number | 'self', ReadonlyMap<number, string>>();

  /** MAJOR:MINOR of a mount in the mount namespace of ours, or of `pid`: ids of mounts are the same in all of them. */
  find(pid: number | 'self', mountId: number): string | undefined {
    return this.#of('self').get(mountId) ?? this.#of(pid).get(mountId);
  }

  #of(pid: number | 'self'): ReadonlyMap<number, string> {
    const known = this.#devices.get(pid);
    if (known !== undefined) return known;
    const lines = (readProcText(`/proc/${pid}/mountinfo`) ?? '').matchAll(/^(\d+) \d+ (\d+:\d+) /gm);
    const devices = new Map([...lines].map(([, id, device = '']) => [Number(id), device]));
    this.#devices.set(pid, devices);
    return devices;
  }
}

/** Follows the link: see the top. */
export function statDescriptor({ pid, fd }: Descriptor): fs.BigIntStats | undefined {
  return unlessUnseen(() => fs.statSync(`/proc/${pid}/fd/${fd}`, { bigint: true }));
}

/** The st_dev of Linux (gnu_dev_major, gnu_dev_minor) as MAJOR:MINOR. */
function decodeDevice(device: bigint): string {
  const major = ((device >> 8n) & 0xfffn) | ((device >> 32n) & ~0xfffn);
  const minor = (device & 0xffn) | ((device >> 12n) & ~0xffn & 0xffffffffn);
  return `${major}:${minor}`;
}

/** File systems without one device of their own have major 0: btrfs, overlayfs, tmpfs, NFS. */
function isAnonymous(device: string): boolean {
  return device.startsWith('0:');
}
