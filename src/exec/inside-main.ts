/** Entry of the process inside the namespaces: mounts the volume, runs the command, reports. It ends with the process outside. */

import fs from 'node:fs';
import net from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import { exitCodeOfSignal } from '../common/exit-code-of-signal.ts';
import { readLines } from '../common/read-lines.ts';
import type { VolumesDescription } from '../open-image/describe-volumes.ts';
import { volumeFileNames } from '../tree/volume-directories.ts';
import { chooseVolume } from './choose-volume.ts';
import {
  decodeTask,
  encodeReport,
  type InsideReport,
  type InsideTask,
  OUTSIDE_FD,
  toFailureReport,
} from './inside-messages.ts';
import { mountAsUser, mountVolume } from './mount-volume.ts';
import { type RunningCommand, startCommand } from './run-command.ts';
import { isOfTerminal, STOP_SIGNALS, type StopSignal } from './stop-signals.ts';

const mountpoint = process.argv[2] ?? '';
const outside = new net.Socket({ fd: OUTSIDE_FD });
let running: RunningCommand | undefined;
let hasReportedEnd = false;
let takeLine = takeTask;

for (const signal of STOP_SIGNALS) process.on(signal, isOfTerminal(signal) ? stopUnlessRunning : () => {});
// The process outside has ended.
for (const event of ['error', 'close']) outside.on(event, () => process.exit());
readLines(outside, (line) => takeLine(line));

function takeTask(line: string): void {
  takeLine = takeSignal;
  void mountAndRun(decodeTask(line))
    .catch(async (error) => {
      // A signal may be why.
      await turn();
      return toFailureReport(error);
    })
    .then(reportEnd);
}

/** A signal that the process outside has got. */
function takeSignal(line: string): void {
  const signal = line as StopSignal;
  stopUnlessRunning(signal);
  if (!isOfTerminal(signal)) running?.kill(signal);
}

/**
 * The terminal sends its signals to the command itself, but not to one that is started between a signal and the message of the
 * process outside, which has got it too.
 */
function stopUnlessRunning(signal: NodeJS.Signals): void {
  // The process outside may hear of our end before it hears of its own signal.
  if (running === undefined) reportEnd({ kind: 'ended', exitCode: exitCodeOfSignal(signal) });
}

/** Ends this process too. The first report counts. */
function reportEnd(end: InsideReport): void {
  if (hasReportedEnd) return;
  hasReportedEnd = true;
  outside.end(encodeReport(end), () => process.exit());
}

async function mountAndRun({ command, isOrdinaryUser, state, volume }: InsideTask): Promise<InsideReport> {
  const info = JSON.parse(fs.readFileSync(`${mountpoint}/info.json`, 'utf8')) as VolumesDescription;
  const chosen = chooseVolume(info, volume, state);
  const fileName = volumeFileNames(info.volumes.map(({ name }) => name))[chosen.index];
  // The mount hides the one in which the file is found; nobody needs that any more.
  const place = { file: `${mountpoint}/volumes/${fileName}`, folder: mountpoint };
  await (isOrdinaryUser ? mountAsUser(chosen, place) : mountVolume(chosen, place));
  // Signals that came meanwhile.
  await turn();
  if (hasReportedEnd) throw new Error('a signal came before the command');
  outside.write(encodeReport({ kind: 'started' }));
  running = startCommand(command, mountpoint);
  return { kind: 'ended', exitCode: await running.exitCode };
}
