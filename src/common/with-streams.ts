/** Child processes that could not be had. */

import type { ChildProcess } from 'node:child_process';
import { Qcow2fsError } from '../errors.ts';

/**
 * Hands on what spawn has just returned, if it has the streams that were asked for. Where too many files are open, Node.js returns a
 * child without them, and without an id: to send that a signal would send it to the whole process group of the caller. One or two
 * pipes that it had made by then stay open.
 * @throws Qcow2fsError IO.
 */
export function withStreams<Child extends ChildProcess>(child: Child): Child {
  if ((child.stdio as Child['stdio'] | undefined) !== undefined) return child;
  // An `error` event follows.
  child.on('error', () => {});
  throw new Qcow2fsError(
    'IO',
    `${child.spawnfile} cannot be run: too many files are open (ulimit -n and fs.file-max say how many may be)`,
    { data: { command: child.spawnfile } },
  );
}
