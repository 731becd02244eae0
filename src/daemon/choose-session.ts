/** Which transport serves a mount. */

import { warn } from '../common/logging.ts';
import { messageOf, Qcow2fsError } from '../errors.ts';
import type { FileSystem } from '../filesystem/file-system.ts';
import type { Mounter } from '../fuse/kernel-mount.ts';
import { openMounter } from '../fuse/mounter.ts';
import { MISSING_KOFFI } from '../fuse/receive-descriptor.ts';
import type { FuseNativeConstructor } from '../fuse-native/fuse-native-types.ts';
import { loadFuseNative } from '../fuse-native/load-fuse-native.ts';
import { createKernelSession } from './kernel-session.ts';
import type { TransportChoice } from './mount-options.ts';
import { createNativeSession } from './native-session.ts';
import type { ServedImages } from './served-images.ts';
import type { Session } from './session.ts';
import type { WorkerPoolOptions } from './worker-pool.ts';

/**
 * `auto` takes fuse-native only where koffi is missing: what else keeps the kernel's protocol from being used (no
 * /dev/fuse, no fusermount3) keeps libfuse from it too, and its message would be the worse one.
 * @throws Qcow2fsError MOUNT, with what is missing.
 */
export function chooseSession(
  choice: TransportChoice,
  poolOptions: WorkerPoolOptions,
  createFileSystem: (served: ServedImages) => FileSystem,
): Session {
  const native = (Fuse: FuseNativeConstructor) => createNativeSession(Fuse, poolOptions.served, createFileSystem);
  if (choice === 'fuse-native') return native(loadFuseNative());
  let mounter: Mounter;
  try {
    mounter = openMounter();
  } catch (error) {
    if (choice === 'kernel' || !isMissingKoffi(error)) throw error;
    return native(loadInstead(error));
  }
  return createKernelSession(mounter, poolOptions);
}

function isMissingKoffi(error: unknown): error is Qcow2fsError {
  return error instanceof Qcow2fsError && error.data.missing === MISSING_KOFFI;
}

function loadInstead(reason: Qcow2fsError): FuseNativeConstructor {
  let Fuse: FuseNativeConstructor;
  try {
    Fuse = loadFuseNative();
  } catch (cause) {
    throw new Qcow2fsError('MOUNT', `${reason.message}. Nor is there its substitute: ${messageOf(cause)}`, { cause });
  }
  warn(
    'serving through fuse-native, without SEEK_HOLE and the page cache, and with requests of 128 KiB at most: ' +
      reason.message,
  );
  return Fuse;
}
