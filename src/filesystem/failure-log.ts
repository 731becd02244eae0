/** What a reader sees of a failure is only an errno, so the reason has to be in the log. */

import { createLogger, warn } from '../common/logging.ts';
import { messageOf, Qcow2fsError } from '../errors.ts';

const log = createLogger('filesystem');

/** Once each, since a reader may try again and again. */
const warned = new Set<string>();
const MAX_WARNING_COUNT = 100;

/** Logs what made an operation on `what` (a node, a path) fail; a name that does not exist is no failure. */
export function logFailure(error: unknown, operation: string, what: string): void {
  log('%s of %s failed: %O', operation, what, error);
  if (error instanceof Qcow2fsError && error.code === 'NOT_FOUND') return;
  const isBug = !(error instanceof Qcow2fsError) || error.code === 'INTERNAL';
  const message = isBug ? `${operation} failed unexpectedly: ${messageOf(error)}` : messageOf(error);
  if (warned.has(message) || warned.size >= MAX_WARNING_COUNT) return;
  warned.add(message);
  warn(message);
}
