/** A file that is being made: there is none of its name before, and none again if it does not become whole. */

import fs from 'node:fs';
import { createForOwner } from '../common/create-for-owner.ts';
import { fileSizeLimitHint } from '../common/file-size-limit.ts';
import { messageOf, Qcow2fsError, systemCodeOf } from '../errors.ts';
import { fileIdentity } from './file-storage.ts';

/** The file system is full, or the user's share of it is. */
const FULL_CODES = ['ENOSPC', 'EDQUOT'];

export class NewFile {
  readonly path: string;
  readonly #fd: number;
  readonly #identity: string;
  #isOpen = true;

  /** @throws Qcow2fsError IO, also for a name that is taken, if only by a symlink; NO_SPACE. */
  constructor(path: string) {
    this.path = path;
    try {
      this.#fd = createForOwner(path, fs.constants.O_WRONLY);
    } catch (cause) {
      if (systemCodeOf(cause) === 'ENOENT') {
        throw new Qcow2fsError('IO', `${path} cannot be made: there is no such folder`, {
          data: { file: path },
          cause,
        });
      }
      if (systemCodeOf(cause) !== 'EEXIST') throw toError(path, cause, 'cannot be made');
      throw new Qcow2fsError('IO', `${path} is there already, and nothing is overwritten: choose another name`, {
        data: { file: path },
        cause,
      });
    }
    this.#identity = fileIdentity(fs.fstatSync(this.#fd));
  }

  /** Bytes that the file system has allocated for it. */
  get allocatedBytes(): number {
    return fs.fstatSync(this.#fd).blocks * 512;
  }

  /**
   * Writes exactly `length` bytes of `source` from `sourceOffset` on at `position`.
   * @throws Qcow2fsError NO_SPACE, IO.
   */
  writeAt(source: Buffer, sourceOffset: number, length: number, position: number): void {
    let done = 0;
    try {
      // pwrite(2) may write less than asked where a file system gets full: the next one says so.
      while (done < length) {
        done += fs.writeSync(this.#fd, source, sourceOffset + done, length - done, position + done);
      }
    } catch (cause) {
      const what = `cannot be written at offset ${position + done}`;
      if (systemCodeOf(cause) === 'EFBIG') throw tooLarge(this.path, cause, what, position + length);
      throw toError(this.path, cause, what);
    }
  }

  /** Returns when all that was written is on the disk. @throws Qcow2fsError NO_SPACE, IO. */
  sync(): void {
    try {
      fs.fdatasyncSync(this.#fd);
    } catch (cause) {
      throw toError(this.path, cause, 'cannot be written to the disk');
    }
  }

  /** @throws Qcow2fsError NO_SPACE, IO: some file systems write only now. */
  close(): void {
    // close(2) has closed it even if it fails.
    this.#isOpen = false;
    try {
      fs.closeSync(this.#fd);
    } catch (cause) {
      throw toError(this.path, cause, 'cannot be closed');
    }
  }

  /**
   * Removes the file, and closes it if it is open; another one that has its name by now stays.
   * @throws Qcow2fsError IO.
   */
  discard(): void {
    try {
      const named = fs.lstatSync(this.path, { throwIfNoEntry: false });
      if (named !== undefined && fileIdentity(named) === this.#identity) fs.unlinkSync(this.path);
    } catch (cause) {
      throw toError(this.path, cause, 'is not whole, and cannot be removed');
    } finally {
      if (this.#isOpen) this.close();
    }
  }
}

function tooLarge(path: string, cause: unknown, what: string, sizeBytes: number): Qcow2fsError {
  const why =
    fileSizeLimitHint(sizeBytes) ?? `its file system has no files of ${sizeBytes} bytes: write to another file system`;
  return new Qcow2fsError('NO_SPACE', `${path} ${what}: ${why}`, { data: { file: path }, cause });
}

function toError(path: string, cause: unknown, what: string): Qcow2fsError {
  const code = systemCodeOf(cause) ?? '';
  const data = { file: path };
  if (!FULL_CODES.includes(code)) {
    return new Qcow2fsError('IO', `${path} ${what}: ${messageOf(cause)}`, { data, cause });
  }
  const remedy = 'make room there, or write to another file system';
  return new Qcow2fsError('NO_SPACE', `${path} ${what}: ${messageOf(cause)}; ${remedy}`, { data, cause });
}
