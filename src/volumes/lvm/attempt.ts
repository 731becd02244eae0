/** Keeps damage to what it is in: the rest is shown all the same. */

import { type ErrorCode, Qcow2fsError } from '../../errors.ts';

/** What stays with the bytes it is about. STALE and BUSY are about the image, and everything else is no damage. */
const LOCAL_CODES: readonly ErrorCode[] = ['DAMAGED', 'PAST_END', 'IO'];

/**
 * The result of `body`; if something on the disk is damaged or cannot be read, undefined, and a line in `problems` that
 * begins with `what`.
 */
export function attempt<Result>(what: string, problems: string[], body: () => Result): Result | undefined {
  try {
    return body();
  } catch (error) {
    if (!isLocalDamage(error)) throw error;
    problems.push(`${what}: ${error.message}`);
    return undefined;
  }
}

/** True for an error that says nothing about the rest of the disk. */
export function isLocalDamage(error: unknown): error is Qcow2fsError {
  return error instanceof Qcow2fsError && LOCAL_CODES.includes(error.code);
}
