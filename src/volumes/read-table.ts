/** Reading a piece of a table that may be damaged: it costs what the table describes, and never more. */

import type { Disk } from '../disk/disk.ts';
import { Qcow2fsError } from '../errors.ts';

/** Failures of single bytes. All others (the image has changed, the program has a bug) concern everything. */
const LOCAL_FAILURES: readonly string[] = ['DAMAGED', 'PAST_END', 'IO'];

/**
 * The bytes, or why they cannot be read. Sizes come from limits and never from an unchecked field.
 * @throws Qcow2fsError other than DAMAGED, PAST_END and IO.
 */
export function readTable(disk: Disk, offset: number, length: number): Buffer | string {
  if (!(offset <= disk.sizeBytes - length)) return 'it lies past the end of the disk';
  const bytes = Buffer.alloc(length);
  try {
    disk.readAt(bytes, 0, offset, length);
  } catch (error) {
    if (error instanceof Qcow2fsError && LOCAL_FAILURES.includes(error.code)) {
      return `it cannot be read: ${error.message}`;
    }
    throw error;
  }
  return bytes;
}
