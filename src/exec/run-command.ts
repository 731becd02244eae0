/** Runs the user's command as env(1) does. */

import { type ChildProcess, spawn } from 'node:child_process';
import { exitCodeOfSignal } from '../common/exit-code-of-signal.ts';
import { warn } from '../common/logging.ts';
import { messageOf, systemCodeOf } from '../errors.ts';

/** As env(1), timeout(1) and the shell have them. */
const CANNOT_RUN = 126;
const NOT_FOUND = 127;

const REASONS: ReadonlyMap<string, string> = new Map([
  ['ENOENT', 'there is no such command'],
  ['EACCES', 'it is not executable'],
  ['ENOTDIR', 'what its path has as a folder is a file'],
  ['E2BIG', 'its words and the environment are longer than the kernel takes (execve(2)): give it less'],
]);

export interface RunningCommand {
  /** Resolves to its exit code; 128 and the number of the signal, if one ended it. */
  readonly exitCode: Promise<number>;
  kill(signal: NodeJS.Signals): void;
}

/** Starts it in `root`, with the streams of this process. */
export function startCommand([command = '', ...args]: readonly string[], root: string): RunningCommand {
  let child: ChildProcess;
  try {
    const env = { ...process.env, PWD: root, QCOW2FS_ROOT: root };
    child = spawn(command, args, { cwd: root, stdio: 'inherit', env });
  } catch (error) {
    // Only some errors of execve(2) are events of the child.
    return { exitCode: Promise.resolve(tellWhy(command, error)), kill: () => {} };
  }
  const exitCode = new Promise<number>((resolve) => {
    child.on('error', (error) => resolve(tellWhy(command, error)));
    child.on('exit', (code, signal) => resolve(code ?? (signal === null ? CANNOT_RUN : exitCodeOfSignal(signal))));
  });
  return { exitCode, kill: (signal) => void (child.pid !== undefined && child.kill(signal)) };
}

/** Returns the exit code for a command that could not be started. */
function tellWhy(command: string, error: unknown): number {
  const code = systemCodeOf(error);
  warn(`${command} cannot be run: ${REASONS.get(code ?? '') ?? messageOf(error)}`);
  return code === 'ENOENT' ? NOT_FOUND : CANNOT_RUN;
}
