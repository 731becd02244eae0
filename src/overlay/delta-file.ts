/** Reads and writes the file of a delta, whatever it holds. */

import fs from 'node:fs';
import { fileSizeLimitHint } from '../common/file-size-limit.ts';
import { messageOf, Qcow2fsError, systemCodeOf } from '../errors.ts';
import type { DeltaMemory } from './delta-memory.ts';

/** What of a delta its file is known by. */
export type DeltaFile = Pick<DeltaMemory, 'fd' | 'name'>;

/** The ways in which a file system says that a file cannot grow. */
const FULL_CODES = ['ENOSPC', 'EDQUOT', 'EFBIG'];

/** @throws Qcow2fsError IO, also when the file ends too early: somebody else has cut it. */
export function readFile(
  file: DeltaFile,
  target: Buffer,
  targetOffset: number,
  length: number,
  position: number,
): void {
  let done = 0;
  while (done < length) {
    const count = readSome(file, target, targetOffset + done, length - done, position + done);
    if (count === 0) {
      throw new Qcow2fsError('IO', `${file.name} ends at ${position + done}: somebody else has cut it off`, {
        data: { position: position + done },
      });
    }
    done += count;
  }
}

/** @throws Qcow2fsError NO_SPACE, with the same message each time, or IO. The file may have a part of the bytes then. */
export function writeFile(
  file: DeltaFile,
  source: Buffer,
  sourceOffset: number,
  length: number,
  position: number,
): void {
  let done = 0;
  while (done < length) {
    // A disk that runs full takes what still fits, and only then fails.
    done += writeSome(file, source, sourceOffset + done, length - done, position + done);
  }
}

/** Returns when all bytes that were written are on the disk. @throws Qcow2fsError IO. */
export function syncFile(file: DeltaFile): void {
  try {
    fs.fdatasyncSync(file.fd);
  } catch (cause) {
    throw new Qcow2fsError('IO', `${file.name} cannot be kept: ${messageOf(cause)}`, { cause });
  }
}

function readSome(file: DeltaFile, target: Buffer, targetOffset: number, length: number, position: number): number {
  try {
    return fs.readSync(file.fd, target, targetOffset, length, position);
  } catch (cause) {
    throw new Qcow2fsError('IO', `${file.name}: reading ${length} bytes at ${position} failed: ${messageOf(cause)}`, {
      data: { position, length },
      cause,
    });
  }
}

function writeSome(file: DeltaFile, source: Buffer, sourceOffset: number, length: number, position: number): number {
  try {
    return fs.writeSync(file.fd, source, sourceOffset, length, position);
  } catch (cause) {
    throw writeError(file, position, length, cause);
  }
}

function writeError(file: DeltaFile, position: number, length: number, cause: unknown): Qcow2fsError {
  const code = systemCodeOf(cause);
  // A file that is there already was made without the limit.
  const hint = code === 'EFBIG' ? fileSizeLimitHint(position + length) : undefined;
  if (hint !== undefined) {
    const message = `${file.name} cannot be written to its end, as ${hint}`;
    return new Qcow2fsError('NO_SPACE', message, { data: { systemCode: 'EFBIG' }, cause });
  }
  if (code !== undefined && FULL_CODES.includes(code)) {
    return new Qcow2fsError(
      'NO_SPACE',
      `${file.name} cannot grow, its file system has no more space for it (${code}): free some there; a smaller ` +
        '--max-delta next time ends writes before that',
      { data: { systemCode: code }, cause },
    );
  }
  return new Qcow2fsError('IO', `${file.name}: writing at ${position} failed: ${messageOf(cause)}`, {
    data: { position },
    cause,
  });
}
