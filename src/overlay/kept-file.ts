/** The file of a kept delta: made, or found to be the one that belongs to a state of an image. */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { createForOwner } from '../common/create-for-owner.ts';
import { fileSizeLimitHint } from '../common/file-size-limit.ts';
import { messageOf, Qcow2fsError, systemCodeOf } from '../errors.ts';
import { closeOnError } from './close-on-error.ts';
import { readFile, writeFile } from './delta-file.ts';
import { BLOCK_BYTES, type KeptLayout, pageCountOf } from './delta-memory.ts';
import {
  DELTA_HEADER_BYTES,
  type DeltaOrigin,
  decodeDeltaHeader,
  encodeDeltaHeader,
  MAP_PAGE_BYTES,
} from './wire/delta-header.ts';

export interface KeptFile {
  readonly fd: number;
  readonly name: string;
  readonly layout: KeptLayout;
  readonly dataStart: number;
  /** Milliseconds since 1970 of its last change; 0 for a new one. */
  readonly changedAtMs: number;
}

/** Exit code of flock(1) for a lock that somebody else has. */
const LOCK_TAKEN = 1;
/** Of an identity. */
const MAX_IDENTITY_BYTES = 1024;

/**
 * Opens a delta file, or makes it. It is locked until it is closed.
 * @throws Qcow2fsError REFUSED for a file that is no delta, or one of another disk; BUSY while somebody else has it; DAMAGED,
 * NO_SPACE or IO.
 */
export function openKeptFile(filePath: string, origin: DeltaOrigin): KeptFile {
  if (Buffer.byteLength(origin.identity) > MAX_IDENTITY_BYTES) {
    throw new Qcow2fsError('INTERNAL', `an identity has more than ${MAX_IDENTITY_BYTES} bytes`);
  }
  return openExisting(filePath, origin) ?? create(filePath, origin);
}

function openExisting(filePath: string, origin: DeltaOrigin): KeptFile | undefined {
  let fd: number;
  try {
    // To open a device or a FIFO may be to use it.
    requireRegular(filePath, fs.statSync(filePath));
    fd = fs.openSync(filePath, fs.constants.O_RDWR | fs.constants.O_NONBLOCK);
  } catch (error) {
    if (error instanceof Qcow2fsError) throw error;
    if (systemCodeOf(error) === 'ENOENT') return undefined;
    throw openError(filePath, error);
  }
  return closeOnError(fd, () => {
    const file = describe(filePath, fd, origin.sizeBytes);
    const stat = fs.fstatSync(fd);
    requireRegular(filePath, stat);
    requireDelta(filePath, file, stat.size, origin);
    lock(filePath, fd);
    if (stat.size !== fileBytes(file.dataStart, origin.sizeBytes)) {
      throw new Qcow2fsError('DAMAGED', `${filePath}: this delta has ${stat.size} bytes, it was cut off or extended`, {
        data: { file: filePath, sizeBytes: stat.size },
      });
    }
    return { ...file, changedAtMs: Math.floor(stat.mtimeMs) };
  });
}

function create(filePath: string, origin: DeltaOrigin): KeptFile {
  let fd: number;
  try {
    fd = createForOwner(filePath, fs.constants.O_RDWR);
  } catch (error) {
    throw openError(filePath, error);
  }
  return closeOnError(fd, () => {
    try {
      const file = describe(filePath, fd, origin.sizeBytes);
      lock(filePath, fd);
      extendFile(file, fileBytes(file.dataStart, origin.sizeBytes));
      writeFile(file, encodeDeltaHeader(origin), 0, DELTA_HEADER_BYTES, 0);
      keepName(filePath, fd);
      return { ...file, changedAtMs: 0 };
    } catch (error) {
      fs.unlinkSync(filePath);
      throw error;
    }
  });
}

/**
 * Gives the file its full size at once: a file system that cannot have a file of this size, or a process that may not, says so
 * here, and not in the middle of the work.
 * @throws Qcow2fsError UNSUPPORTED, NO_SPACE or IO.
 */
export function extendFile(file: { readonly fd: number; readonly name: string }, sizeBytes: number): void {
  try {
    fs.ftruncateSync(file.fd, sizeBytes);
  } catch (cause) {
    if (systemCodeOf(cause) !== 'EFBIG') {
      throw new Qcow2fsError('IO', `${file.name} cannot have ${sizeBytes} bytes: ${messageOf(cause)}`, { cause });
    }
    const what = `${file.name} would be a sparse file of ${sizeBytes} bytes, as large as the disk`;
    const options = { data: { sizeBytes }, cause };
    const hint = fileSizeLimitHint(sizeBytes);
    if (hint !== undefined) throw new Qcow2fsError('NO_SPACE', `${what}, but ${hint}`, options);
    throw new Qcow2fsError(
      'UNSUPPORTED',
      `${what}, which its file system cannot have (ext4 ends at 16 TiB): choose a folder on XFS, Btrfs or tmpfs`,
      options,
    );
  }
}

function describe(filePath: string, fd: number, sizeBytes: number): Omit<KeptFile, 'changedAtMs'> {
  const pageCount = pageCountOf(sizeBytes);
  const mapStart = DELTA_HEADER_BYTES + Math.ceil(pageCount / BLOCK_BYTES) * BLOCK_BYTES;
  return {
    fd,
    name: `the delta ${filePath}`,
    layout: { kindsStart: DELTA_HEADER_BYTES, mapStart },
    dataStart: mapStart + pageCount * MAP_PAGE_BYTES,
  };
}

function fileBytes(dataStart: number, sizeBytes: number): number {
  return dataStart + Math.ceil(sizeBytes / BLOCK_BYTES) * BLOCK_BYTES;
}

function requireRegular(filePath: string, stat: fs.Stats): void {
  if (!stat.isFile())
    throw refuse(filePath, 'is no regular file, so it cannot be a delta: name one that is not there yet');
}

function requireDelta(
  filePath: string,
  file: { fd: number; name: string },
  fileSize: number,
  origin: DeltaOrigin,
): void {
  const header = Buffer.alloc(DELTA_HEADER_BYTES);
  if (fileSize >= header.length) readFile(file, header, 0, header.length, 0);
  const decoded = decodeDeltaHeader(header);
  switch (decoded.kind) {
    case 'foreign':
      throw refuse(filePath, 'is not a delta of qcow2fs, and is left as it is: name a file that is not there yet');
    case 'damaged':
      throw refuse(filePath, 'is a delta of qcow2fs whose header is damaged (its checksum is wrong)');
    case 'unsupported':
      throw refuse(
        filePath,
        `is a delta of another version of qcow2fs (version ${decoded.version}, blocks of ${decoded.blockBytes} bytes)`,
      );
    case 'valid':
      requireOrigin(filePath, decoded.origin, origin);
  }
}

function requireOrigin(filePath: string, found: DeltaOrigin, asked: DeltaOrigin): void {
  if (found.identity === asked.identity && found.sizeBytes === asked.sizeBytes) return;
  throw refuse(
    filePath,
    `is the delta of ${found.state} of ${found.image} (${found.sizeBytes} bytes), not of ${asked.state} of ${asked.image} ` +
      `(${asked.sizeBytes} bytes) as it is now: use another file, or the image as it was`,
  );
}

function refuse(filePath: string, why: string): Qcow2fsError {
  return new Qcow2fsError('REFUSED', `${filePath} ${why}`, { data: { file: filePath } });
}

/**
 * A lock of flock(2), which Node.js does not have: the program of util-linux takes it on our own open file description, so
 * it is ours when the program has ended, and is gone when the file is closed or the process ends. Unlike a name in the
 * abstract socket namespace, it holds between containers, and nobody can take it who cannot open the file.
 */
function lock(filePath: string, fd: number): void {
  const { status, error, stderr } = spawnSync('flock', ['-x', '-n', '3'], {
    stdio: ['ignore', 'ignore', 'pipe', fd],
    encoding: 'utf8',
  });
  if (status === 0) return;
  const data = { file: filePath };
  if (error === undefined && status === LOCK_TAKEN) {
    throw new Qcow2fsError('BUSY', `${filePath} is in use by another qcow2fs: end that first`, { data });
  }
  const reason = error === undefined ? stderr.trim() : messageOf(error);
  throw new Qcow2fsError('IO', `${filePath} cannot be locked with flock (util-linux): ${reason}`, {
    data,
    cause: error,
  });
}

/** A file is only there after a crash if its folder is written as well. */
function keepName(filePath: string, fd: number): void {
  const folder = fs.openSync(path.dirname(filePath), fs.constants.O_RDONLY | fs.constants.O_DIRECTORY);
  try {
    fs.fsyncSync(fd);
    fs.fsyncSync(folder);
  } catch (cause) {
    throw new Qcow2fsError('IO', `${filePath} cannot be kept: ${messageOf(cause)}`, {
      data: { file: filePath },
      cause,
    });
  } finally {
    fs.closeSync(folder);
  }
}

function openError(filePath: string, cause: unknown): Qcow2fsError {
  return new Qcow2fsError('IO', `${filePath}: the delta cannot be opened: ${messageOf(cause)}`, {
    data: { file: filePath },
    cause,
  });
}
