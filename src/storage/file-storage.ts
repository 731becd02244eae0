/** A regular file or a block device as a Storage, always opened O_RDONLY and never locked. */

import fs from 'node:fs';
import { notUtf8Hint } from '../common/names.ts';
import { hasStamps, readFile } from '../common/system-calls.ts';
import { messageOf, Qcow2fsError, systemCodeOf, systemTextOf } from '../errors.ts';
import type { Storage } from './storage.ts';

/** An open file as plain data. File descriptors belong to the process, so a worker thread can use it as it is. */
export interface OpenFile {
  readonly path: string;
  readonly fd: number;
  /** Device and inode number: what says that two paths are one file. */
  readonly identity: string;
  readonly sizeBytes: number;
  /** Bytes that the file system has allocated for it; 0 for a block device. */
  readonly allocatedBytes: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeMs: number;
  readonly ctimeMs: number;
  readonly isBlockDevice: boolean;
  readonly openedAtMs: number;
}

/**
 * Opens a regular file or block device for reading.
 * O_NONBLOCK keeps a FIFO from blocking the open; it means nothing for the two kinds that are accepted.
 * @param openPath where the file is found, if not at the path that it has in messages
 * @throws Qcow2fsError NOT_FOUND or IO, naming the file.
 */
export function openFile(path: string, openPath = path): OpenFile {
  let fd: number;
  try {
    // To open a device may be to use it (a tape, a watchdog), so what is no disk is not even opened.
    requireDisk(path, fs.statSync(openPath));
    fd = fs.openSync(openPath, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
  } catch (error) {
    if (error instanceof Qcow2fsError) throw error;
    throw openError(path, error);
  }
  try {
    const openedAtMs = Date.now();
    const stat = fs.fstatSync(fd);
    requireDisk(path, stat);
    return {
      path,
      fd,
      identity: fileIdentity(stat),
      sizeBytes: stat.isBlockDevice() ? blockDeviceSizeBytes(path, stat.rdev) : stat.size,
      allocatedBytes: stat.blocks * 512,
      mode: stat.mode,
      uid: stat.uid,
      gid: stat.gid,
      mtimeMs: stat.mtimeMs,
      ctimeMs: stat.ctimeMs,
      isBlockDevice: stat.isBlockDevice(),
      openedAtMs,
    };
  } catch (error) {
    fs.closeSync(fd);
    throw error instanceof Qcow2fsError ? error : openError(path, error);
  }
}

/** What two paths or descriptors have in common if they are one file. */
export function fileIdentity({ dev, ino }: Pick<fs.Stats, 'dev' | 'ino'>): string {
  return `${dev}:${ino}`;
}

/**
 * True while size, mtime and ctime are those of `openFile`. A block device has no such sign and counts as unchanged.
 * @throws Qcow2fsError IO for a file on a server that forgot it.
 */
export function isUnchanged(file: OpenFile): boolean {
  if (file.isBlockDevice) return true;
  try {
    return hasStamps(file.fd, file);
  } catch (cause) {
    throw lookError(file, cause);
  }
}

/** What the file is now. @throws Qcow2fsError as `isUnchanged`. */
export function statOf(file: OpenFile): fs.Stats {
  try {
    return fs.fstatSync(file.fd);
  } catch (cause) {
    throw lookError(file, cause);
  }
}

/** Time stamps come from a clock that ticks every 1 to 10 ms (CONFIG_HZ); this is several ticks. */
export const TIME_STAMP_TICKS_MS = 50;

/**
 * True if the last change of the file was so long before it was opened that any later one shows in its time stamps.
 * A time stamp in the future (another machine's clock) cannot be judged and counts as settled.
 */
export function isSettled(file: OpenFile): boolean {
  const age = file.openedAtMs - Math.max(file.mtimeMs, file.ctimeMs);
  return file.isBlockDevice || age >= TIME_STAMP_TICKS_MS || age < -TIME_STAMP_TICKS_MS;
}

/** Reads through the file's descriptor with pread(2). */
export class FileStorage implements Storage {
  readonly name: string;
  readonly sizeBytes: number;
  readonly #fd: number;

  constructor(file: OpenFile) {
    this.name = file.path;
    this.sizeBytes = file.sizeBytes;
    this.#fd = file.fd;
  }

  readUpTo(target: Buffer, targetOffset: number, length: number, position: number): number {
    // An entry of a damaged table may point further than pread(2) takes: that is past the end, not a failure of the system.
    // The size is not asked: a file that is written to may have grown, and with it what its header points to.
    if (position > Number.MAX_SAFE_INTEGER - length) return 0;
    let done = 0;
    try {
      // pread(2) may return less than asked in the middle of a file (2 GiB limit, signals): only 0 means the end.
      while (done < length) {
        const count = readFile(this.#fd, target, targetOffset + done, length - done, position + done);
        if (count === 0) break;
        done += count;
      }
    } catch (error) {
      throw new Qcow2fsError('IO', `${this.name}: reading ${length} bytes at ${position} failed: ${messageOf(error)}`, {
        data: { file: this.name, position, length },
        cause: error,
      });
    }
    return done;
  }
}

function requireDisk(path: string, stat: fs.Stats): void {
  if (stat.isFile() || stat.isBlockDevice()) return;
  throw new Qcow2fsError('IO', `${path} is neither a regular file nor a block device`, { data: { file: path } });
}

function openError(path: string, cause: unknown): Qcow2fsError {
  const code = systemCodeOf(cause);
  const data = { file: path };
  if (code === 'ENOENT')
    return new Qcow2fsError('NOT_FOUND', `${path}: no such file${notUtf8Hint(path, 'make a symlink to it')}`, {
      data,
      cause,
    });
  if (code === 'EACCES') {
    return new Qcow2fsError('IO', `${path}: permission denied: run as a user who may read it, such as root`, {
      data,
      cause,
    });
  }
  // The path in it may be one of /proc, by which the file was found.
  return new Qcow2fsError('IO', `${path}: cannot be opened: ${systemTextOf(cause)}`, { data, cause });
}

function lookError({ path }: OpenFile, cause: unknown): Qcow2fsError {
  return new Qcow2fsError('IO', `${path} cannot be looked at any more: ${systemTextOf(cause)}`, {
    data: { file: path },
    cause,
  });
}

/** Node has no BLKGETSIZE64; sysfs has the size in 512-byte sectors. Device numbers: makedev(3). */
function blockDeviceSizeBytes(path: string, rdev: number): number {
  const major = Math.floor(rdev / 256) % 4096;
  const minor = (rdev % 256) + Math.floor(rdev / 0x10_0000) * 256;
  try {
    return Number(fs.readFileSync(`/sys/dev/block/${major}:${minor}/size`, 'utf8')) * 512;
  } catch (cause) {
    throw new Qcow2fsError('IO', `${path}: the size of the block device is not in sysfs`, {
      data: { file: path },
      cause,
    });
  }
}
