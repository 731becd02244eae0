/** Runs the programs that mount, and keeps what they say. */

import { spawnChild } from '../common/spawn-child.ts';
import { messageOf, Qcow2fsError, systemCodeOf } from '../errors.ts';

export interface ProgramResult {
  /** null if a signal ended it. */
  readonly status: number | null;
  readonly stdout: string;
  /** On one line. */
  readonly stderr: string;
}

/** Where these programs are besides: PATH of an ordinary user may be without them. */
const SYSTEM_FOLDERS = '/usr/sbin:/sbin';

/** @throws Qcow2fsError MOUNT if it cannot be started; IO if too many files are open. */
export function runProgram(command: string, args: readonly string[]): Promise<ProgramResult> {
  return new Promise((resolve, reject) => {
    const child = spawnChild(command, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, PATH: `${process.env.PATH ?? '/usr/bin:/bin'}:${SYSTEM_FOLDERS}`, LC_ALL: 'C' },
    });
    let [stdout, stderr] = ['', ''];
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.on('error', (cause) => {
      const reason = systemCodeOf(cause) === 'ENOENT' ? 'it is not installed' : messageOf(cause);
      reject(new Qcow2fsError('MOUNT', `${command} cannot be run: ${reason}`, { data: { command }, cause }));
    });
    child.on('close', (status) => resolve({ status, stdout, stderr: toLine(stderr) }));
  });
}

function toLine(text: string): string {
  return text.trim().replace(/\s*\n\s*/g, '; ');
}
