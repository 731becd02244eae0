/** Runs programs side by side. */

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const execute = promisify(execFile);

/** As `runCommand`, without blocking: several can run at once. */
export async function startCommand(command: string, args: readonly string[]): Promise<string> {
  const { stdout } = await execute(command, args, {
    maxBuffer: 64 * 1024 * 1024,
    timeout: 100_000,
    killSignal: 'SIGKILL',
  });
  return stdout;
}
