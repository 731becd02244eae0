/** A descriptor that its maker does not keep when it fails. */

import fs from 'node:fs';

/** Returns what `body` returns; closes `fd` if it throws. */
export function closeOnError<Result>(fd: number, body: () => Result): Result {
  try {
    return body();
  } catch (error) {
    fs.closeSync(fd);
    throw error;
  }
}
