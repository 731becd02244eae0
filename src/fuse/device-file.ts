/** The file through which FUSE is reached. */

import fs from 'node:fs';
import { messageOf, Qcow2fsError, systemCodeOf } from '../errors.ts';

export const DEVICE = '/dev/fuse';

/**
 * Whether an ordinary user can open it is up to fusermount3, which may have more rights.
 * @throws Qcow2fsError MOUNT: there is none.
 */
export function requireDevice(): void {
  try {
    fs.statSync(DEVICE);
  } catch (cause) {
    throw deviceError(cause);
  }
}

/** What to do about a device that cannot be opened or found. */
export function deviceError(cause: unknown): Qcow2fsError {
  const code = systemCodeOf(cause);
  // ENODEV, ENXIO: the file is there, and nothing behind it.
  const isMissing = code === 'ENOENT' || code === 'ENODEV' || code === 'ENXIO';
  return new Qcow2fsError(
    'MOUNT',
    isMissing
      ? `${DEVICE} is missing: load the kernel module with \`modprobe fuse\` as root, or give the container \`--device ${DEVICE}\``
      : `${DEVICE} cannot be opened: ${messageOf(cause)}; give the container \`--device ${DEVICE} --cap-add SYS_ADMIN\``,
    { cause },
  );
}
