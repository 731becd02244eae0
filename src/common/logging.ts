/** Logging through the `debug` package: `DEBUG=qcow2fs:*` shows everything, the default only what `warn` prints. */

import debug from 'debug';

/** A logger for one part of the program; shown with `DEBUG=qcow2fs:PART`. */
export function createLogger(part: string): (format: string, ...values: unknown[]) => void {
  return debug(`qcow2fs:${part}`);
}

/** One line on stderr that a user must see: a daemon in the background sends its stderr to the system log. */
export function warn(message: string): void {
  process.stderr.write(`qcow2fs: ${message}\n`);
}
