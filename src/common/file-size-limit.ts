/**
 * The limit on the size of files that a process writes (RLIMIT_FSIZE, `ulimit -f`). The kernel answers EFBIG for it as for what
 * the file system cannot have, since Node.js ignores SIGXFSZ: see generic_write_check_limits and inode_newsize_ok.
 */

import fs from 'node:fs';

/** The row of the table that fs/proc/base.c makes in proc_pid_limits: soft limit, hard limit, unit. */
const ROW = /^Max file size\s+(\d+)\s/m;

/** If that limit keeps a file from having `sizeBytes` bytes: the sentence that says so, with what to do. */
export function fileSizeLimitHint(sizeBytes: number): string | undefined {
  const limitBytes = softLimitBytes();
  if (sizeBytes <= limitBytes) return undefined;
  return `this process may write files of ${limitBytes} bytes at most: raise that limit (ulimit -f)`;
}

/** Infinity where there is none, which is written in letters. */
function softLimitBytes(): number {
  let limits: string;
  try {
    limits = fs.readFileSync('/proc/self/limits', 'utf8');
  } catch {
    return Number.POSITIVE_INFINITY;
  }
  return Number(ROW.exec(limits)?.[1] ?? Number.POSITIVE_INFINITY);
}
