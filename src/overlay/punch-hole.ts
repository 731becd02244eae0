/**
 * Gives the space of a range of a file back to its file system: fallocate(2) with FALLOC_FL_PUNCH_HOLE, which Node.js does
 * not have. It is called through koffi, or by the program of util-linux where that optional package is missing.
 *
 * A process ends with SIGABRT if a thread is terminated while it loads koffi (its module initialiser does not expect that
 * calls into JavaScript fail). A thread therefore loads it only when it first makes a hole: it serves a request then, and
 * threads are ended when there are none. Calls of what is loaded can be cut off at any moment.
 */

import { spawnSync } from 'node:child_process';
import { lastError, loadKoffi } from '../common/koffi.ts';
import { messageOf } from '../errors.ts';

/**
 * - `punched`: the range is a hole
 * - `unsupported`: neither this nor any other range of the file can be one
 * - `failed`: this one could not
 */
export type PunchResult =
  | { readonly kind: 'punched' }
  | { readonly kind: 'unsupported' | 'failed'; readonly reason: string };

/** Punches [`offset`, `offset` + `length`) of an open file; the file keeps its size. */
export type HolePuncher = (fd: number, offset: number, length: number) => PunchResult;

/** include/uapi/linux/falloc.h */
const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;

/** ENOSYS: the kernel, or a filter of system calls, does not have it. */
const UNSUPPORTED_CODES = ['EOPNOTSUPP', 'ENOTSUP', 'ENOSYS'];
/** `keep size mode is unsupported`, and strerror(3) of the codes above. */
const UNSUPPORTED_TEXT = /unsupported|not supported|not implemented/i;
const PUNCHED: PunchResult = { kind: 'punched' };

let chosen: HolePuncher | undefined;

/** Punches with whatever this machine has. Looks for it when it is first needed: that takes some milliseconds. */
export const punchHole: HolePuncher = (fd, offset, length) => {
  chosen ??= loadLibraryPuncher() ?? punchWithProgram;
  return chosen(fd, offset, length);
};

/** undefined without koffi. */
export function loadLibraryPuncher(): HolePuncher | undefined {
  const koffi = loadKoffi();
  if (koffi === undefined) return undefined;
  const fallocate = koffi.load(null).func('int fallocate(int, int, int64_t, int64_t)');
  return (fd, offset, length) => {
    for (;;) {
      if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length) === 0) return PUNCHED;
      const { code } = lastError(koffi);
      if (code === 'EINTR') continue;
      return { kind: UNSUPPORTED_CODES.includes(code) ? 'unsupported' : 'failed', reason: code };
    }
  };
}

/** Opens the file anew by its descriptor, so that it also works for one without a name. */
export const punchWithProgram: HolePuncher = (fd, offset, length) => {
  const range = ['--offset', String(offset), '--length', String(length)];
  const { status, error, stderr } = spawnSync('fallocate', ['--punch-hole', ...range, '/proc/self/fd/3'], {
    stdio: ['ignore', 'ignore', 'pipe', fd],
    env: { ...process.env, LC_ALL: 'C' },
    encoding: 'utf8',
  });
  if (error !== undefined) return { kind: 'unsupported', reason: messageOf(error) };
  if (status === 0) return PUNCHED;
  const reason = stderr.trim();
  return { kind: UNSUPPORTED_TEXT.test(reason) ? 'unsupported' : 'failed', reason };
};
