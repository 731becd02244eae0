/** Reads that end in zeros where the file ends. */

import type { Storage } from '../../storage/storage.ts';

/**
 * Fills the first `length` bytes of `target` from `position`, with zeros past the end of the file. Right for counting,
 * as a zero entry refers to nothing; that a table is past the end is told by the reference to it.
 * @throws Qcow2fsError IO.
 */
export function readZeroPadded(storage: Storage, target: Buffer, length: number, position: number): void {
  const count = position < storage.sizeBytes ? storage.readUpTo(target, 0, length, position) : 0;
  target.fill(0, count, length);
}
