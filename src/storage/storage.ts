/** The contract for bytes at an offset, below every format: a file, a buffer, or a wrapper in a test. */

import { Qcow2fsError } from '../errors.ts';

export interface Storage {
  /** What error messages call it: the path of a file. */
  readonly name: string;
  /** Size when it was opened. */
  readonly sizeBytes: number;
  /**
   * Reads up to `length` bytes from `position` into `target` at `targetOffset`.
   * Returns how many bytes were read: fewer than `length` only where the storage ends.
   * @throws Qcow2fsError IO when the operating system fails.
   */
  readUpTo(target: Buffer, targetOffset: number, length: number, position: number): number;
}

/**
 * Reads exactly `length` bytes; `what` names them in the error.
 * @throws Qcow2fsError PAST_END when the storage ends before `position + length`. QEMU reads zeros there; this reader
 * does not, since a file that was cut must not look like a disk full of zeros.
 */
export function readExactly(
  storage: Storage,
  target: Buffer,
  targetOffset: number,
  length: number,
  position: number,
  what: string,
): void {
  const count = storage.readUpTo(target, targetOffset, length, position);
  if (count !== length) throw pastEnd(storage, position, length, what);
}

/** The error for a range that lies, wholly or in part, past the end of the storage. */
export function pastEnd(storage: Storage, position: number, length: number, what: string): Qcow2fsError {
  return new Qcow2fsError(
    'PAST_END',
    `${storage.name}: ${what} at offset ${position} (${length} bytes) lies past the end of the file ` +
      `(${storage.sizeBytes} bytes): the file was cut, or copied incompletely`,
    { data: { file: storage.name, position, length, sizeBytes: storage.sizeBytes } },
  );
}
