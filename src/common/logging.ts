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

/**
 * From now on, what cannot be told changes nothing of what is done: without a listener, the `error` of a stream ends its process
 * (Node.js, events: "Error events"). A full disk, or a reader that has gone, is one.
 */
export function tolerateLostStderr(): void {
  if (!process.stderr.listeners('error').includes(ignore)) process.stderr.on('error', ignore);
}

function ignore(): void {}

/** One line on stderr that a user must see: a daemon in the background sends its stderr to the system log. */
export function warn(message: string): void {
  tolerateLostStderr();
  process.stderr.write(`qcow2fs: ${message}\n`);
}
