/** The side of the caller: starts the process inside the namespaces of a daemon, and waits for the end of all that is in there. */

import type { Duplex } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { readLines } from '../common/read-lines.ts';
import { spawnChild } from '../common/spawn-child.ts';
import type { PrivateDaemon } from '../daemon/private-daemon.ts';
import { Qcow2fsError } from '../errors.ts';
import { encodeTask, type InsideReport, type InsideTask, OUTSIDE_FD } from './inside-messages.ts';
import { insideCommand } from './namespaces.ts';
import type { OutputTail } from './output-tail.ts';
import type { StopSignal, StopSignals } from './stop-signals.ts';

/** What becomes of the streams of a command: it has ours, or the end of its output is kept. */
export type CommandStreams = 'inherit' | { readonly stdout: OutputTail; readonly stderr: OutputTail };

const PROCESS = fileURLToPath(new URL('./inside-main.js', import.meta.url));

/**
 * Returns the exit code of the command when nothing of it is left: processes, mount and loop device. That of a signal, if one came
 * before the command was started: whoever was ended by it, or failed for it.
 * @param mountpoint where the state is mounted, and where its volume is to be
 * @throws Qcow2fsError if it could not be started: MOUNT, and those of `chooseVolume`.
 */
export async function runInside(
  daemon: PrivateDaemon,
  mountpoint: string,
  task: InsideTask,
  streams: CommandStreams,
  signals: StopSignals,
): Promise<number> {
  const [command = '', ...args] = insideCommand(daemon.pid, [process.execPath, PROCESS, mountpoint]);
  const standard = streams === 'inherit' ? (['inherit', 'inherit', 'inherit'] as const) : OWN_STREAMS;
  // The working directory of this process may lie where the daemon's mounts are not.
  const child = spawnChild(command, args, { cwd: '/', stdio: [...standard, 'pipe'] });
  if (streams !== 'inherit' && child.stdout !== null && child.stderr !== null) {
    streams.stdout.follow(child.stdout);
    streams.stderr.follow(child.stderr);
  }
  const channel = child.stdio[OUTSIDE_FD] as Duplex;
  let last: InsideReport | undefined;
  readLines(channel, (line) => {
    last = JSON.parse(line) as InsideReport;
  });
  channel.write(encodeTask(task));
  // Without it the file system gives errors only.
  let isDaemonLost = false;
  void daemon.ended.then(() => {
    isDaemonLost = true;
    channel.destroy();
  });
  // Whether the command has been started is known inside only: that message may still be on its way.
  const passOn = (signal: StopSignal) => void channel.write(`${signal}\n`);
  await signals.during(passOn, () => {
    return new Promise<void>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', () => resolve());
    });
  });
  if (last?.kind === 'ended') return last.exitCode;
  if (signals.exitCode !== undefined) return signals.exitCode;
  throw toError(last, isDaemonLost);
}

const OWN_STREAMS = ['ignore', 'pipe', 'pipe'] as const;

function toError(last: InsideReport | undefined, isDaemonLost: boolean): Qcow2fsError {
  if (last?.kind === 'failed') return new Qcow2fsError(last.code, last.message);
  if (isDaemonLost)
    return new Qcow2fsError('MOUNT', 'the process that shows the state has ended: the command was ended too');
  return new Qcow2fsError('MOUNT', 'the namespaces of the command have ended before it: was something in them killed?');
}
