/** The one place where an error becomes an errno. Values: include/uapi/asm-generic/errno-base.h and errno.h. */

import { type ErrorCode, Qcow2fsError } from '../errors.ts';

/** Linux errno values that this project answers with. */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  EIO: 5,
  EBADF: 9,
  EACCES: 13,
  EBUSY: 16,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  EFBIG: 27,
  ENOSPC: 28,
  EROFS: 30,
  ERANGE: 34,
  ENXIO: 6,
  ENOSYS: 38,
  ENOTTY: 25,
  ENODATA: 61,
  EOPNOTSUPP: 95,
  ESTALE: 116,
} as const;

const ERRNO_OF_CODE: Readonly<Record<ErrorCode, number>> = {
  USAGE: ERRNO.EINVAL,
  NOT_FOUND: ERRNO.ENOENT,
  NOT_QCOW2: ERRNO.EIO,
  UNSUPPORTED: ERRNO.EOPNOTSUPP,
  LOCKED: ERRNO.EACCES,
  DAMAGED: ERRNO.EIO,
  PAST_END: ERRNO.EIO,
  STALE: ERRNO.ESTALE,
  BUSY: ERRNO.EBUSY,
  IO: ERRNO.EIO,
  READ_ONLY: ERRNO.EROFS,
  NO_SPACE: ERRNO.ENOSPC,
  MOUNT: ERRNO.EIO,
  REFUSED: ERRNO.EACCES,
  INTERNAL: ERRNO.EIO,
};

/** The positive errno for anything that was thrown: EIO for whatever is not a `Qcow2fsError`. */
export function toErrno(error: unknown): number {
  return error instanceof Qcow2fsError ? ERRNO_OF_CODE[error.code] : ERRNO.EIO;
}
