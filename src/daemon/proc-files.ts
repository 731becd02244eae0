/** Reads what /proc tells about other processes, any of which may end meanwhile or be hidden from us. */

import fs from 'node:fs';

/**
 * The process has ended or closed the file; or it belongs to somebody else, or runs with rights of its own (ptrace(2)).
 * EINVAL is for the mountinfo of one that is about to end (fs/proc_namespace.c, mounts_open_common).
 */
const UNSEEN = ['ENOENT', 'ESRCH', 'EINVAL', 'EACCES', 'EPERM'];

/** The text of a file of /proc; undefined if it is not to be seen. */
export function readProcText(path: string): string | undefined {
  return unlessUnseen(() => fs.readFileSync(path, 'utf8'));
}

/** The names in a folder of /proc; none if it is not to be seen. */
export function listProcFolder(path: string): string[] {
  return unlessUnseen(() => fs.readdirSync(path)) ?? [];
}

/** Where a link of /proc points, without following it; undefined if it is not to be seen. */
export function readProcLink(path: string): string | undefined {
  return unlessUnseen(() => fs.readlinkSync(path));
}

/** Runs `read`; undefined if what it reads is gone or hidden. Anything else that goes wrong is thrown. */
export function unlessUnseen<Result>(read: () => Result): Result | undefined {
  try {
    return read();
  } catch (error) {
    if (UNSEEN.includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
}
