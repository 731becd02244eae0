/** Processes and mounts of the peers. */

import fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { checkInterrupted } from '../run.mjs';

const START_TIMEOUT_MS = 20_000;
const END_TIMEOUT_MS = 5000;
/** Short: the time until a peer is ready is measured with it. */
const PAUSE_MS = 2;

/** Waits for what a program does when it is ready. */
export async function waitUntil(isReady, program, name) {
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (!isReady()) {
    checkInterrupted();
    if (program.hasEnded() || Date.now() > deadline) throw new Error(`${name} does not show the image`);
    await sleep(PAUSE_MS);
  }
}

/** Waits until processes are gone that end with their mount; ends them if they stay. */
export async function waitForEnd(pids) {
  const deadline = Date.now() + END_TIMEOUT_MS;
  while (pids.some((pid) => commandLine(pid) !== '')) {
    if (Date.now() > deadline) {
      for (const pid of pids.filter((each) => commandLine(each) !== '')) process.kill(pid, 'SIGKILL');
      return;
    }
    await sleep(PAUSE_MS);
  }
}

/** Processes that have the mountpoint on their command line: the daemon and its helpers. */
export function processesNaming(mountpoint) {
  const pids = fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return pids.map(Number).filter((pid) => pid !== process.pid && commandLine(pid).includes(mountpoint));
}

/** The folders of the bench have no blanks in their names, which mountinfo would escape. */
export function isMounted(place) {
  return fs.readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${place} `);
}

/** Empty for one that has ended, also while nobody has asked for its exit code yet. */
function commandLine(pid) {
  try {
    return fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}
