/** Child processes, and what happens when there cannot be one. */

import { type ChildProcess, spawn } from 'node:child_process';
import { Qcow2fsError } from '../errors.ts';

/**
 * `spawn`, but its child always has the streams that were asked for. Where too many files are open, Node.js returns one without them,
 * and without an id: to send that a signal would send it to the whole process group of the caller. One or two pipes that it had
 * made by then stay open. Other failures are an `error` event of the child, as they are of `spawn`.
 * @throws Qcow2fsError IO when too many files are open.
 */
export const spawnChild = ((...args: Parameters<typeof spawn>) => withStreams(spawn(...args))) as typeof spawn;

function withStreams(child: ChildProcess): ChildProcess {
  if ((child.stdio as ChildProcess['stdio'] | undefined) !== undefined) return child;
  // An `error` event follows.
  child.on('error', () => {});
  throw new Qcow2fsError(
    'IO',
    `${child.spawnfile} cannot be run: too many files are open (ulimit -n and fs.file-max say how many may be)`,
    { data: { command: child.spawnfile } },
  );
}
