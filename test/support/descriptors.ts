/** What a process has open. */

import fs from 'node:fs';

/**
 * How many descriptors a process has, without those of /proc: a daemon has the list of locks open for some milliseconds, five
 * times a second.
 */
export function countDescriptors(pid: number): number {
  const folder = `/proc/${pid}/fd`;
  return fs.readdirSync(folder).filter((fd) => !/^\/proc\//.test(targetOf(`${folder}/${fd}`))).length;
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
