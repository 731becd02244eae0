/** A virtual machine without a guest that has an image open for writing; its writes come through QEMU's monitor. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import readline from 'node:readline';
import type { Duplex } from 'node:stream';

export interface Machine {
  readonly pid: number;
  /** Runs a command of qemu-io on the disk, such as `write -P 0x61 0 64k`. */
  readonly io: (command: string) => Promise<void>;
  /** Runs a command of the monitor protocol (docs/interop/qemu-qmp-ref). */
  readonly run: (command: string, args?: object) => Promise<unknown>;
  /** Ends it as a shutdown does: all that it has kept in memory is written. */
  readonly quit: () => Promise<void>;
}

/** What the machine calls its disk. */
const DRIVE = 'disk';
/** Its monitor speaks through this descriptor. */
const MONITOR_FD = 3;

/** Runs `body` while the machine runs; it is killed afterwards unless it has quit. `driveOptions`: `,cache=none`, … */
export async function withMachine(
  image: string,
  body: (machine: Machine) => Promise<void>,
  driveOptions = '',
): Promise<void> {
  const child = spawn(
    'setpriv',
    [
      ...['--pdeathsig', 'KILL', '--', 'qemu-system-x86_64', '-S', '-nodefaults', '-display', 'none'],
      ...['-machine', 'none', '-chardev', `socket,id=monitor,fd=${MONITOR_FD}`, '-mon', 'chardev=monitor,mode=control'],
      ...['-drive', `if=none,id=${DRIVE},format=qcow2,discard=unmap,file=${image}${driveOptions}`],
    ],
    { stdio: ['ignore', 'pipe', 'pipe', 'pipe'] },
  );
  const ended = once(child, 'close');
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (text) => (output += text));
  const { pid } = child;
  if (pid === undefined) return void (await ended);
  const run = openMonitor(child.stdio[MONITOR_FD] as Duplex, () => output);
  try {
    await run('qmp_capabilities');
    await body({
      pid,
      run,
      io: async (command) => {
        output = '';
        await run('human-monitor-command', { 'command-line': `qemu-io ${DRIVE} "${command}"` });
        // With -q, a command says something only when it fails; `read -P` says so in any case.
        if (/fail|error/i.test(output)) throw new Error(`${command}: ${output}`);
      },
      quit: async () => {
        await run('quit');
        await ended;
      },
    });
  } finally {
    child.kill('SIGKILL');
    await ended;
  }
}

/** Answers come in the order of the commands; events and the greeting in between are nobody's answer. */
function openMonitor(socket: Duplex, output: () => string): Machine['run'] {
  const waiting: { resolve: (result: unknown) => void; reject: (error: Error) => void }[] = [];
  const lines = readline.createInterface({ input: socket }).on('line', (line) => {
    const message = JSON.parse(line) as { return?: unknown; error?: { desc: string } };
    if (message.error !== undefined) waiting.shift()?.reject(new Error(message.error.desc));
    else if ('return' in message) waiting.shift()?.resolve(message.return);
  });
  // The end of the socket says the same.
  for (const emitter of [socket, lines]) emitter.on('error', () => {});
  socket.on('close', () => {
    for (const { reject } of waiting.splice(0)) reject(new Error(`QEMU closed its monitor: ${output()}`));
  });
  return (command, args = {}) =>
    new Promise((resolve, reject) => {
      waiting.push({ resolve, reject });
      socket.write(`${JSON.stringify({ execute: command, arguments: args })}\n`);
    });
}
