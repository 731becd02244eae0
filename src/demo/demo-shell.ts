/**
 * Runs the command lines of the demo in a temporary folder and shows them. However the demo ends (done, a failed step,
 * Ctrl-C, a closed terminal or pipe), no mount and no file stays behind.
 */
import type { ChildProcess } from 'node:child_process';
import { readFileSync, realpathSync } from 'node:fs';
import tmp from 'tmp';
import { spawnChild } from '../common/spawn-child.ts';
import { Qcow2fsError } from '../errors.ts';

const STOPPING_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
const INDENT = '   ';

/** How a command line is to be run. */
export interface RunOptions {
  /** The exit status that counts as success: 0 unless given. */
  readonly expectedStatus?: number | 'any';
  /** Leaves the command line and its output unshown. */
  readonly quiet?: boolean;
}

/** Thrown by a step that must not go on, because the user wants the demo to end. */
class Stopped extends Error {}

export class DemoShell {
  readonly folder: string;
  readonly #binFolder: string;
  #child: ChildProcess | undefined;
  #stopped = false;

  /** Commands run in `folder`; programs in `binFolder` come before those of the system. */
  constructor(folder: string, binFolder: string) {
    this.folder = folder;
    this.#binFolder = binFolder;
  }

  say(text: string): void {
    process.stdout.write(`${text}\n`);
  }

  /** Runs one command line and resolves to what it wrote to stdout. Throws if it ends otherwise than expected. */
  async run(commandLine: string, options: RunOptions = {}): Promise<string> {
    this.#throwIfStopped();
    if (!options.quiet) this.say(`${INDENT}$ ${commandLine}`);
    const result = await this.#spawn(commandLine, true);
    this.#throwIfStopped();
    if (!options.quiet) this.#show(result.stdout + result.stderr);
    const expected = options.expectedStatus ?? 0;
    if (expected !== 'any' && result.status !== expected) throw failure(commandLine, result, expected);
    return result.stdout;
  }

  /**
   * The same for a command line that mounts or unmounts. It is never cut short, because what it leaves behind in the
   * middle nobody could tell.
   */
  async runToTheEnd(commandLine: string): Promise<void> {
    this.#throwIfStopped();
    this.say(`${INDENT}$ ${commandLine}`);
    const result = await this.#spawn(commandLine, false);
    this.#throwIfStopped();
    this.#show(result.stdout + result.stderr);
    if (result.status !== 0) throw failure(commandLine, result, 0);
  }

  /** Ends the running command; every later one throws. */
  stop(): void {
    this.#stopped = true;
    if (this.#child?.pid === undefined) return;
    try {
      process.kill(-this.#child.pid, 'SIGTERM');
    } catch {
      // It ended by itself at this moment.
    }
  }

  /** Unmounts `folder/name` if it is mounted, stopped or not. */
  async unmount(name: string): Promise<void> {
    if (!isMounted(`${this.folder}/${name}`)) return;
    await this.#spawn(`qcow2fs umount ${name}`, false);
    if (!isMounted(`${this.folder}/${name}`)) return;
    const detach = process.getuid?.() === 0 ? 'umount --lazy --no-canonicalize' : 'fusermount3 -u -z';
    const result = await this.#spawn(`${detach} "$PWD/${name}"`, false);
    if (result.status !== 0) throw failure(`${detach} ${this.folder}/${name}`, result, 0);
  }

  /**
   * The command gets a session of its own: Ctrl-C goes to every process in the terminal's foreground, and it is this
   * process alone that decides what ends when.
   */
  async #spawn(commandLine: string, canBeStopped: boolean): Promise<Result> {
    const child = spawnChild('/bin/sh', ['-c', commandLine], {
      cwd: this.folder,
      detached: true,
      env: { ...process.env, LC_ALL: 'C', TZ: 'UTC', PATH: `${this.#binFolder}:${process.env.PATH ?? ''}` },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    if (canBeStopped) this.#child = child;
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text) => {
      stderr += text;
    });
    const status = await new Promise<number | null>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', resolve);
    }).finally(() => {
      this.#child = undefined;
    });
    return { status, stdout, stderr };
  }

  #show(output: string): void {
    for (const line of output.trimEnd().split('\n')) if (line !== '') this.say(`${INDENT}${line}`);
  }

  #throwIfStopped(): void {
    if (this.#stopped) throw new Stopped('stopped');
  }
}

/**
 * Runs `job` in a temporary folder with a shell. Afterwards, `folder/mountName` is unmounted and the folder removed. If a
 * signal ended the job, this process then ends by the same signal.
 */
export async function inDemoShell(
  binFolder: string,
  mountName: string,
  job: (shell: DemoShell) => Promise<void>,
): Promise<void> {
  const temporary = tmp.dirSync({ prefix: 'qcow2fs-demo', unsafeCleanup: true });
  const shell = new DemoShell(realpathSync(temporary.name), binFolder);
  let reason: NodeJS.Signals | Error | undefined;
  const stop = (why: NodeJS.Signals | Error): void => {
    reason ??= why;
    shell.stop();
  };
  for (const signal of STOPPING_SIGNALS) process.on(signal, stop);
  // Whoever else listens may end the process at once when stdout is closed: not before the cleaning up.
  const listeners = process.stdout.listeners('error') as ((error: Error) => void)[];
  process.stdout.removeAllListeners('error').on('error', stop);
  try {
    await job(shell).catch((error: unknown) => {
      if (!(error instanceof Stopped)) throw error;
    });
  } finally {
    try {
      await shell.unmount(mountName);
      temporary.removeCallback();
    } finally {
      for (const signal of STOPPING_SIGNALS) process.off(signal, stop);
      process.stdout.off('error', stop);
      for (const listener of listeners) process.stdout.on('error', listener);
    }
  }
  if (typeof reason === 'string') process.kill(process.pid, reason);
  else if (reason) throw new Qcow2fsError('IO', `demo: cannot write to stdout: ${reason.message}`, { cause: reason });
}

interface Result {
  /** Null if a signal ended the command. */
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function failure(commandLine: string, { status, stderr }: Result, expected: number): Qcow2fsError {
  const said = stderr.trim() === '' ? '' : `: ${stderr.trim()}`;
  return new Qcow2fsError('IO', `demo: \`${commandLine}\` ended with ${status}, not ${expected}${said}`);
}

/** The kernel's list is asked, because looking at a mount whose daemon died fails. */
function isMounted(path: string): boolean {
  // Blanks, tabs, line feeds and backslashes are written in octal there.
  const escaped = path.replace(/[ \t\n\\]/g, (char) => `\\${char.charCodeAt(0).toString(8).padStart(3, '0')}`);
  return readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${escaped} `);
}
