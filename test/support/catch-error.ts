/** Catching what must be thrown. */

import { Qcow2fsError } from '../../src/errors.ts';

/** The Qcow2fsError that `action` throws; fails if it throws nothing or something else. */
export function catchError(action: () => unknown): Qcow2fsError {
  try {
    action();
  } catch (error) {
    if (error instanceof Qcow2fsError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}
