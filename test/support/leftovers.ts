/** Finds what a test run has left behind below its own folder: mounts, loop devices, processes. */

import fs from 'node:fs';
import { runCommand } from './run-command.ts';

/** Mount points below `folder`, innermost first. */
export function mountsBelow(folder: string): string[] {
  return fs
    .readFileSync('/proc/self/mountinfo', 'latin1')
    .split('\n')
    .map((line) => unescapeMountinfo(line.split(' ')[4] ?? ''))
    .filter((mountPoint) => mountPoint.startsWith(`${folder}/`))
    .reverse();
}

/** Loop devices over files below `folder`. */
export function loopDevicesBelow(folder: string): string[] {
  const { loopdevices: devices } = JSON.parse(
    runCommand('losetup', ['--list', '--json', '--output', 'NAME,BACK-FILE']) || '{"loopdevices": []}',
  ) as { loopdevices: { name: string; 'back-file': string | null }[] };
  return devices.filter((device) => device['back-file']?.startsWith(`${folder}/`)).map((device) => device.name);
}

/** Command lines of processes that name something below `folder`. */
export function processesNaming(folder: string): string[] {
  return fs
    .readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .map((pid) => `${pid}: ${commandLine(pid)}`)
    .filter((line) => line.includes(`${folder}/`));
}

function commandLine(pid: string): string {
  try {
    return fs.readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ');
  } catch {
    // It has ended since the listing.
    return '';
  }
}

/** proc(5): blank, tab, newline and backslash are octal there. */
function unescapeMountinfo(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
