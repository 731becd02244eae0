/** Programs that have an image open, each in its own way, until the test is done with them. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { WriterWatch } from '../../src/daemon/writer-watch.ts';
import { runCommand } from '../support/run-command.ts';
import { waitUntil } from './mounting.ts';

export interface Program {
  /** The name of its process. */
  readonly name: string;
  readonly command: readonly string[];
  readonly input?: string;
  /** True once it has the image open. */
  readonly isReady: (output: string) => boolean;
}

export interface RunningProgram {
  readonly pid: number;
  /** Ends it, and returns when it is gone. */
  readonly end: () => Promise<void>;
  /** Gives it a line, and returns when it has said something with `answer` in it. */
  readonly type: (line: string, answer: string) => Promise<void>;
}

/** A VM that does not run yet. */
export function vm(image: string, driveOptions = ''): Program {
  const options = ['-S', '-nodefaults', '-display', 'none', '-machine', 'none', '-qmp', 'stdio'];
  return {
    name: 'qemu-system-x86',
    command: ['qemu-system-x86_64', ...options, '-drive', `if=none,format=qcow2,file=${image}${driveOptions}`],
    // The answer comes from the main loop, so from a VM that is complete.
    input: '{"execute": "qmp_capabilities"}\n',
    isReady: (output) => output.includes('"return"'),
  };
}

/** qemu-io at its prompt. */
export function qemuIo(image: string, options: readonly string[] = ['-f', 'qcow2']): Program {
  return { name: 'qemu-io', command: ['qemu-io', ...options, image], isReady: (output) => output.includes('qemu-io>') };
}

export function qemuNbd(image: string, options: readonly string[] = []): Program {
  const [socket, pidFile] = [`${image}.socket`, `${image}.pid`];
  return {
    name: 'qemu-nbd',
    command: ['qemu-nbd', '-t', '-f', 'qcow2', '-k', socket, `--pid-file=${pidFile}`, ...options, image],
    // Written when all else is done.
    isReady: () => fs.existsSync(pidFile) && fs.readFileSync(pidFile, 'utf8').endsWith('\n'),
  };
}

/** A shell that has a file open for reading and writing; `before` runs first. */
export function shell(image: string, before = ''): Program {
  return {
    name: 'sh',
    command: ['sh', '-euc', `${before}\nexec 8<>"$1"; echo ready; read line`, 'sh', image],
    isReady: (output) => output.includes('ready'),
  };
}

/** Runs `body` while the program runs, started through `prefix` if there is one. */
export async function whileRunning(
  program: Program,
  body: (running: RunningProgram) => void | Promise<void>,
  prefix: readonly string[] = [],
): Promise<void> {
  const [command = '', ...args] = [...prefix, ...program.command];
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  const { pid } = child;
  const ended = once(child, 'close');
  if (pid === undefined) return void (await ended);
  const end = async () => {
    child.kill('SIGKILL');
    await ended;
  };
  try {
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (output += text));
    child.stdin.write(program.input ?? '');
    await waitUntil(() => program.isReady(output) || child.exitCode !== null);
    if (child.exitCode !== null) throw new Error(`${command} ${args.join(' ')}: exit ${child.exitCode}\n${output}`);
    const type = async (line: string, answer: string) => {
      const before = output.length;
      child.stdin.write(`${line}\n`);
      await waitUntil(() => output.slice(before).includes(answer));
    };
    await body({ pid, end, type });
  } finally {
    await end();
  }
}

/** A clock that goes when it is told to. */
export class TestClock {
  milliseconds = 0;
  readonly now = () => this.milliseconds;
}

/** Runs `body` with a watch over the image, and its clock. */
export async function withWatch(
  image: string,
  body: (watch: WriterWatch, clock: TestClock) => void | Promise<void>,
): Promise<void> {
  const fd = fs.openSync(image, 'r');
  try {
    const clock = new TestClock();
    await body(new WriterWatch(fd, clock.now), clock);
  } finally {
    fs.closeSync(fd);
  }
}

/** Runs `body` while something is mounted; `args` of mount(8) but the mountpoint, which is made. */
export async function whileMountedOn(
  mountpoint: string,
  args: readonly string[],
  body: () => void | Promise<void>,
): Promise<void> {
  fs.mkdirSync(mountpoint, { recursive: true });
  runCommand('mount', [...args, mountpoint]);
  try {
    await body();
  } finally {
    runCommand('umount', ['-l', mountpoint]);
  }
}
