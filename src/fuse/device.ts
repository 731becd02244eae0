/** read(2) and write(2) on /dev/fuse, with what each of their errors means. */

import { readFile, writeFile } from '../common/system-calls.ts';
import { systemCodeOf } from '../errors.ts';

/** Instead of a length: why there is nothing more to read. */
export const UNMOUNTED = -1;
export const ABORTED = -2;
/** Instead of a length: nothing came, ask again. */
export const NOTHING = 0;

/**
 * Blocks until there is a request. Returns its length, or one of the values above.
 * @throws the system error for what only a bug can cause: EPERM (not mounted yet), EINVAL (buffer too small), EBADF.
 */
export function readDevice(fd: number, buffer: Buffer): number {
  try {
    return readFile(fd, buffer, 0, buffer.length, null);
  } catch (error) {
    switch (systemCodeOf(error)) {
      // The mount and all its users are gone.
      case 'ENODEV':
        return UNMOUNTED;
      // Somebody wrote to /sys/fs/fuse/connections/N/abort; only with FUSE_ABORT_ERROR, otherwise that is ENODEV too.
      case 'ECONNABORTED':
        return ABORTED;
      // A signal came first.
      case 'EINTR':
        return NOTHING;
      // The request was withdrawn while it was handed over: its caller was killed.
      case 'ENOENT':
        return NOTHING;
      default:
        throw error;
    }
  }
}

/** Nobody waits for the reply any more, as the caller was killed; the others: the mount ended, which the next read tells as well. */
const UNWANTED = ['ENOENT', 'ENODEV', 'ECONNABORTED', 'EPERM'];

/**
 * Writes a reply. False when the kernel does not take it. With a header that is malformed (EINVAL), or that could not be copied, the
 * request then still waits for another reply; with a body of another size than it expects, also EINVAL, the kernel has ended
 * the request with EIO, and another reply is ENOENT (fuse_dev_do_write in fs/fuse/dev.c).
 */
export function writeDevice(fd: number, reply: Buffer, length: number): boolean {
  try {
    writeFile(fd, reply, length);
    return true;
  } catch (error) {
    return UNWANTED.includes(systemCodeOf(error) ?? '');
  }
}
