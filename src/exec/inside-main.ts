/** Entry of the process inside the namespaces: mounts the volume, runs the command, reports. It ends with the process outside. */

import fs from 'node:fs';
import net from 'node:net';
import readline from 'node:readline';
import type { VolumesDescription } from '../open-image/describe-volumes.ts';
import { volumeFileNames } from '../tree/volume-directories.ts';
import { chooseVolume } from './choose-volume.ts';
import { encodeReport, type InsideReport, type InsideTask, OUTSIDE_FD, toFailureReport } from './inside-messages.ts';
import { mountAsUser, mountVolume } from './mount-volume.ts';
import { type RunningCommand, startCommand } from './run-command.ts';
import type { StopSignal } from './stop-signals.ts';

const outside = new net.Socket({ fd: OUTSIDE_FD });
let running: RunningCommand | undefined;

for (const signal of ['SIGINT', 'SIGQUIT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});
outside.on('error', () => {});
outside.on('close', () => process.exit());
readline.createInterface({ input: outside }).on('line', (line) => takeSignal(line as StopSignal));

const end = await mountAndRun(JSON.parse(process.argv[2] ?? '') as InsideTask).catch(toFailureReport);
outside.end(encodeReport(end), () => process.exit());

/** A signal that the process outside has got. The terminal sends SIGINT to the command itself. */
function takeSignal(signal: StopSignal): void {
  if (running === undefined) process.exit();
  if (signal !== 'SIGINT') running.kill(signal);
}

async function mountAndRun({ command, isOrdinaryUser, mountpoint, state, volume }: InsideTask): Promise<InsideReport> {
  const info = JSON.parse(fs.readFileSync(`${mountpoint}/info.json`, 'utf8')) as VolumesDescription;
  const chosen = chooseVolume(info, volume, state);
  const fileName = volumeFileNames(info.volumes.map(({ name }) => name))[chosen.index];
  // The mount hides the one in which the file is found; nobody needs that any more.
  const place = { file: `${mountpoint}/volumes/${fileName}`, folder: mountpoint };
  await (isOrdinaryUser ? mountAsUser(chosen, place) : mountVolume(chosen, place));
  outside.write(encodeReport({ kind: 'started' }));
  running = startCommand(command, mountpoint);
  return { kind: 'ended', exitCode: await running.exitCode };
}
