/** Runs the user's command as env(1) does. */

import { spawn } from 'node:child_process';
import os from 'node:os';
import { warn } from '../common/logging.ts';
import { messageOf, systemCodeOf } from '../errors.ts';

/** As env(1), timeout(1) and the shell have them. */
const CANNOT_RUN = 126;
const NOT_FOUND = 127;

const REASONS: ReadonlyMap<string, string> = new Map([
  ['ENOENT', 'there is no such command'],
  ['EACCES', 'it is not executable'],
]);

export interface RunningCommand {
  /** Resolves to its exit code; 128 and the number of the signal, if one ended it. */
  readonly exitCode: Promise<number>;
  kill(signal: NodeJS.Signals): void;
}

/** Starts it in `root`, with the streams of this process. */
export function startCommand([command = '', ...args]: readonly string[], root: string): RunningCommand {
  const child = spawn(command, args, {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, PWD: root, QCOW2FS_ROOT: root },
  });
  const exitCode = new Promise<number>((resolve) => {
    child.on('error', (error) => {
      const code = systemCodeOf(error);
      warn(`${command} cannot be run: ${REASONS.get(code ?? '') ?? messageOf(error)}`);
      resolve(code === 'ENOENT' ? NOT_FOUND : CANNOT_RUN);
    });
    child.on('exit', (code, signal) => resolve(code ?? 128 + (signal === null ? 0 : os.constants.signals[signal])));
  });
  return { exitCode, kill: (signal) => void (child.pid !== undefined && child.kill(signal)) };
}
