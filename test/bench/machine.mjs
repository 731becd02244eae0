/** The machine that is measured on, and what else it does. */

import fs from 'node:fs';
import os from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from './run.mjs';

const SAMPLE_MS = 2000;

export async function describeMachine() {
  const cpus = os.cpus();
  return [
    `${cpus[0]?.model.trim() ?? 'unknown CPU'}, ${cpus.length} cores, ${Math.round(os.totalmem() / 2 ** 30)} GiB of memory`,
    `${os.type()} ${os.release()} (${os.arch()})`,
    `Node.js ${process.version}`,
    ...(await Promise.all(VERSIONS.map(firstLine))),
  ];
}

export function describeNoise({ busyCpus, stolenShare }) {
  const stolen = `${(stolenShare * 100).toFixed(1)} %`;
  return `${busyCpus.toFixed(1)} CPUs were busy with other things at the start, and the host took ${stolen} of the time away`;
}

/** How many CPUs are busy while the bench waits. */
export async function countBusyCpus() {
  const before = cpuTimes();
  await sleep(SAMPLE_MS);
  const after = cpuTimes();
  const all = sum(after) - sum(before);
  return all === 0 ? 0 : ((all - (idleOf(after) - idleOf(before))) / all) * os.cpus().length;
}

/** Returns a function that says which part of all CPU time since now the host took away. */
export function watchStolenTime() {
  const before = cpuTimes();
  return () => {
    const after = cpuTimes();
    return (after[STEAL] - before[STEAL]) / Math.max(1, sum(after) - sum(before));
  };
}

const VERSIONS = [
  ['qemu-storage-daemon', '--version'],
  ['nbdfuse', '--version'],
  ['qcowmount', '-V'],
  ['fio', '--version'],
];

async function firstLine([program, option]) {
  try {
    return (await run(program, [option])).trim().split('\n')[0];
  } catch {
    return `no ${program}`;
  }
}

/** proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal. */
const [IDLE, IOWAIT, STEAL] = [3, 4, 7];

function cpuTimes() {
  return fs.readFileSync('/proc/stat', 'utf8').split('\n')[0].trim().split(/\s+/).slice(1, 9).map(Number);
}

function idleOf(times) {
  return times[IDLE] + times[IOWAIT];
}

function sum(times) {
  return times.reduce((total, time) => total + time, 0);
}
