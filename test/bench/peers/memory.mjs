/** Memory of the processes of a server, in bytes. */

import fs from 'node:fs';

/** What is resident now. A page that two processes share counts twice. */
export function residentBytes(pids) {
  return sumOf(pids, 'status', 'VmRSS');
}

/** The most that was resident at any time, of each process. */
export function peakResidentBytes(pids) {
  return sumOf(pids, 'status', 'VmHWM');
}

/**
 * What many processes take together: the memory that is their own, and once for each program what is mapped from files.
 * Proportional sizes (PSS) would depend on who else runs the same programs.
 */
export function commonBytes(pids) {
  const mapped = new Map();
  let own = 0;
  for (const pid of pids) {
    const anonymous = readField(pid, 'smaps_rollup', 'Anonymous');
    own += anonymous;
    const program = programOf(pid);
    mapped.set(program, Math.max(mapped.get(program) ?? 0, readField(pid, 'smaps_rollup', 'Rss') - anonymous));
  }
  return [...mapped.values()].reduce((sum, bytes) => sum + bytes, own);
}

function programOf(pid) {
  try {
    return fs.readlinkSync(`/proc/${pid}/exe`);
  } catch {
    return '';
  }
}

function sumOf(pids, file, field) {
  return pids.map((pid) => readField(pid, file, field)).reduce((sum, bytes) => sum + bytes, 0);
}

function readField(pid, file, field) {
  try {
    const text = fs.readFileSync(`/proc/${pid}/${file}`, 'utf8');
    return Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? 0) * 1024;
  } catch {
    // It has ended: helpers of a start do.
    return 0;
  }
}
