/** Runs the programs that tests compare with, and fails with what they said. */

import { spawnSync } from 'node:child_process';

export interface CommandResult {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandOptions {
  readonly cwd?: string;
  readonly input?: string;
  /** Variables on top of this process's own. */
  readonly env?: Readonly<Record<string, string>>;
  /** For a command that takes long on a busy machine. */
  readonly timeoutMs?: number;
}

const MAX_OUTPUT_BYTES = 256 * 1024 * 1024;
/** A program that hangs must fail its own test, not the whole run. */
const TIMEOUT_MS = 100_000;

/** Runs a program and returns its standard output; throws with its standard error when it fails. */
export function runCommand(command: string, args: readonly string[], options: CommandOptions = {}): string {
  const result = tryCommand(command, args, options);
  if (result.status === 0) return result.stdout;
  throw new Error(`${[command, ...args].join(' ')}: exit ${result.status}\n${result.stderr}${result.stdout}`);
}

/** Runs a program and returns how it ended; throws only when it cannot be run or does not end. */
export function tryCommand(command: string, args: readonly string[], options: CommandOptions = {}): CommandResult {
  const { error, signal, status, stdout, stderr } = spawnSync(command, args, {
    cwd: options.cwd,
    input: options.input,
    env: { ...process.env, LC_ALL: 'C', ...options.env },
    encoding: 'utf8',
    maxBuffer: MAX_OUTPUT_BYTES,
    timeout: options.timeoutMs ?? TIMEOUT_MS,
    killSignal: 'SIGKILL',
  });
  if (error !== undefined) throw error;
  if (signal !== null) throw new Error(`${[command, ...args].join(' ')}: ended by ${signal}\n${stderr}`);
  return { status, stdout, stderr };
}
