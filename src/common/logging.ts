/** Logging through the `debug` package: `DEBUG=qcow2fs:*` shows everything, the default only what `warn` prints. */

import { createRequire } from 'node:module';
import type createDebug from 'debug';

/** Each thread would load the package for nothing, which is a tenth of its start. */
const debug =
  process.env.DEBUG === undefined ? undefined : (createRequire(import.meta.url)('debug') as typeof createDebug);

/** A logger for one part of the program; shown with `DEBUG=qcow2fs:PART`. */
export function createLogger(part: string): (format: string, ...values: unknown[]) => void {
  return debug?.(`qcow2fs:${part}`) ?? (() => {});
}

/** One line on stderr that a user must see: a daemon in the background sends its stderr to the system log. */
export function warn(message: string): void {
  process.stderr.write(`qcow2fs: ${message}\n`);
}
