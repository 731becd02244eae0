/**
 * Locks as the kernel lists them (fs/locks.c, lock_get_status), in /proc/locks and, after `lock:`, in /proc/PID/fdinfo/N:
 *
 *     1: OFDLCK ADVISORY  READ -1 fe:00:2147398 100 101
 *     2: POSIX  ADVISORY  WRITE 1234 00:1c:77 0 EOF
 *     2: -> POSIX  ADVISORY  WRITE 1235 00:1c:77 0 EOF      waits for the one above
 *
 * The device is that of the superblock, in hexadecimal digits, and the inode number the kernel's own (i_ino): neither needs
 * to be what stat(2) tells, as on btrfs and overlayfs.
 */

import fs from 'node:fs';
import { readProcText } from './proc-files.ts';

const LIST = '/proc/locks';

/** The list of all locks. That takes the kernel some milliseconds, in which it lets nobody lock (fs/locks.c, locks_start). */
export function readLocks(): string {
  return readProcText(LIST) ?? '';
}

/** As `readLocks`, while this thread does something else. @throws what the system says. */
export function readLocksAside(): Promise<string> {
  return fs.promises.readFile(LIST, 'utf8');
}

/** A lock that is held on a range of bytes, both ends included. */
export interface RangeLock {
  /** MAJOR:MINOR of the superblock in decimal digits, as in mountinfo. */
  readonly superblock: string;
  readonly inode: bigint;
  readonly from: number;
  readonly to: number;
}

/** Locks of whole files (FLOCK, LEASE, DELEG) have no bytes to tell anything by; `->` is no lock yet. */
const HELD_RANGE =
  /^(?:lock:\s*)?\d+:\s+(?:OFDLCK|POSIX)\s+\S+\s+\S+\s+-?\d+ ([\da-f]+):([\da-f]+):(-?\d+) (\d+) (\d+|EOF)$/gm;

/**
 * QEMU locks byte 100 + n for each permission n that it uses, and 200 + n for each that it does not let others have
 * (block/file-posix.c, RAW_LOCK_PERM_BASE, RAW_LOCK_SHARED_BASE).
 */
const PERMISSION_BASE = 100;
const SHARED_BASE = 200;
/** BLK_PERM_WRITE and BLK_PERM_RESIZE (include/block/block-common.h). */
const WRITE_BYTE = PERMISSION_BASE + 1;
const RESIZE_BYTE = PERMISSION_BASE + 3;

/** The last list: all files of a chain are looked for in the same one. */
let last = { text: '', locks: [] as readonly RangeLock[] };

export function decodeLocks(text: string): readonly RangeLock[] {
  if (text !== last.text) last = { text, locks: findLocks(text) };
  return last.locks;
}

function findLocks(text: string): RangeLock[] {
  return [...text.matchAll(HELD_RANGE)].map(([, major = '', minor = '', inode = '', from, to]) => ({
    superblock: `${Number.parseInt(major, 16)}:${Number.parseInt(minor, 16)}`,
    // Linux before 5.5 prints it as a signed number.
    inode: BigInt.asUintN(64, BigInt(inode)),
    from: Number(from),
    to: to === 'EOF' ? Number.POSITIVE_INFINITY : Number(to),
  }));
}

/**
 * True for the lock of a QEMU that may write or resize. A lock that reaches out of QEMU's bytes is another program's, such
 * as one of the whole file, which readers take as well.
 */
export function isWriterLock({ from, to }: RangeLock): boolean {
  if (from < PERMISSION_BASE || to >= SHARED_BASE) return false;
  return [WRITE_BYTE, RESIZE_BYTE].some((byte) => from <= byte && byte <= to);
}
