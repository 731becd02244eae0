/**
 * The one error class of this project. Every failure that a user, a test or the kernel can meet carries a stable
 * code, so that it can be matched without reading the message, and the data that the message was made from.
 */

import { getSystemErrorMap } from 'node:util';

/**
 * Stable codes, each with the situation it stands for. `filesystem/errno.ts` turns them into errnos in one place.
 */
export type ErrorCode =
  /** The command line was wrong: exit 2. */
  | 'USAGE'
  /** A file, state or node with that name does not exist. */
  | 'NOT_FOUND'
  /** The file is not a qcow2 image. */
  | 'NOT_QCOW2'
  /** The image uses a feature that this reader does not have. */
  | 'UNSUPPORTED'
  /** The image is encrypted, and the passphrase is missing or wrong. */
  | 'LOCKED'
  /** A field, table or cluster of the image is invalid. */
  | 'DAMAGED'
  /** A table or cluster lies past the end of the image file. */
  | 'PAST_END'
  /** The image was changed since it was opened: its tables can no longer be trusted. */
  | 'STALE'
  /** Somebody writes to the image: what is on its disk is not its current state. */
  | 'BUSY'
  /** The operating system failed to read, open or list something; `cause` has its error. */
  | 'IO'
  /** What cannot be changed was to be changed: an image, or the size of a file. */
  | 'READ_ONLY'
  /** There is no room for what was to be written. */
  | 'NO_SPACE'
  /** A mount or unmount failed. */
  | 'MOUNT'
  /** A file that an image names may not be opened: see `disk/gate.ts`. */
  | 'REFUSED'
  /** A bug in this program. */
  | 'INTERNAL';

/** Values that went into a message, for logs and tests. */
export type ErrorData = Readonly<Record<string, string | number | boolean | null>>;

/** An error with a stable code; `message` names the file, the field and what to do, in one line. */
export class Qcow2fsError extends Error {
  override readonly name = 'Qcow2fsError';
  readonly code: ErrorCode;
  readonly data: ErrorData;

  constructor(code: ErrorCode, message: string, options: { data?: ErrorData; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.data = options.data ?? {};
  }
}

/**
 * Errors of Linux for which libuv, and so Node.js, has no name: those with which file systems, block devices and execve(2) answer.
 * Numbers: include/uapi/asm-generic/errno-base.h and errno.h. Texts: strerror(3), in the style of libuv.
 */
const UNNAMED_ERRORS: ReadonlyMap<number, readonly [code: string, text: string]> = new Map([
  [8, ['ENOEXEC', 'exec format error']],
  [35, ['EDEADLK', 'resource deadlock avoided']],
  [37, ['ENOLCK', 'no locks available']],
  [52, ['EBADE', 'invalid exchange']],
  [53, ['EBADR', 'invalid request descriptor']],
  [62, ['ETIME', 'timer expired']],
  [66, ['EREMOTE', 'object is remote']],
  [67, ['ENOLINK', 'link has been severed']],
  [70, ['ECOMM', 'communication error on send']],
  [72, ['EMULTIHOP', 'multihop attempted']],
  [74, ['EBADMSG', 'bad message']],
  [77, ['EBADFD', 'file descriptor in bad state']],
  [78, ['EREMCHG', 'remote address changed']],
  [116, ['ESTALE', 'stale file handle']],
  [117, ['EUCLEAN', 'structure needs cleaning']],
  [122, ['EDQUOT', 'disk quota exceeded']],
  [123, ['ENOMEDIUM', 'no medium found']],
  [124, ['EMEDIUMTYPE', 'wrong medium type']],
  [126, ['ENOKEY', 'required key not available']],
  [127, ['EKEYEXPIRED', 'key has expired']],
  [128, ['EKEYREVOKED', 'key has been revoked']],
  [129, ['EKEYREJECTED', 'key was rejected by service']],
  [131, ['ENOTRECOVERABLE', 'state not recoverable']],
  [133, ['EHWPOISON', 'memory page has hardware error']],
]);

/** What uv_err_name and uv_strerror of libuv make of them, alone or one behind the other. */
const UNNAMED = /Unknown system error -(\d+)(: Unknown system error -\1)?/;

/** The text of anything that was thrown. */
export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (!('errno' in error)) return error.message;
  return error.message.replace(UNNAMED, (unnamed, errno) => UNNAMED_ERRORS.get(Number(errno))?.join(': ') ?? unnamed);
}

/** As `messageOf`, but of a system error only what it is, without the call and its path. */
export function systemTextOf(error: unknown): string {
  const errno = error instanceof Error && 'errno' in error ? Number(error.errno) : 0;
  const named = getSystemErrorMap().get(errno) ?? UNNAMED_ERRORS.get(-errno);
  return named?.join(': ') ?? messageOf(error);
}

/** The `code` of a Node.js system error (`ENOENT`, …), or undefined for anything else. */
export function systemCodeOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? toSystemCode(error.code) : undefined;
}

/** What libuv calls an error, or the name that it does not know. */
export function toSystemCode(name: string): string {
  const errno = UNNAMED.exec(name)?.[1];
  return UNNAMED_ERRORS.get(Number(errno))?.[0] ?? name;
}
