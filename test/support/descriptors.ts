/** What a process has open. */

import fs from 'node:fs';

/**
 * The targets of the descriptors that a process has, by default this one, without those of /proc: a daemon has the list of
 * locks open for some milliseconds, five times a second.
 */
export function openFilesOf(pid = process.pid): string[] {
  const folder = `/proc/${pid}/fd`;
  return fs
    .readdirSync(folder)
    .map((fd) => targetOf(`${folder}/${fd}`))
    .filter((target) => !target.startsWith('/proc/'));
}

export function countDescriptors(pid?: number): number {
  return openFilesOf(pid).length;
}

/** One that was closed since it was listed counts as one of /proc. */
function targetOf(link: string): string {
  try {
    return fs.readlinkSync(link);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '/proc/';
    throw error;
  }
}
