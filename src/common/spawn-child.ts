/** Child processes, and what happens when there cannot be one. */

import { type ChildProcess, spawn } from 'node:child_process';
import { Qcow2fsError, systemCodeOf } from '../errors.ts';

/**
 * `spawn`, but its child always has the streams that were asked for. Where too many files are open, Node.js returns one without them,
 * and without an id: to send that a signal would send it to the whole process group of the caller. One or two pipes that it had
 * made by then stay open. Other failures are an `error` event of the child, or thrown, as they are of `spawn`.
 * @throws Qcow2fsError IO when too many files are open, and when the kernel refuses what the child is told as too long.
 */
export const spawnChild = ((...args: Parameters<typeof spawn>) => {
  try {
    return withStreams(spawn(...args));
  } catch (cause) {
    throw systemCodeOf(cause) === 'E2BIG' ? tooLong(args[0], cause) : cause;
  }
}) as typeof spawn;

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

function tooLong(command: string, cause: unknown): Qcow2fsError {
  const problem = 'its arguments and the environment are longer than the kernel takes (execve(2))';
  return new Qcow2fsError('IO', `${command} cannot be run: ${problem}: name fewer files, or by shorter paths`, {
    data: { command },
    cause,
  });
}
