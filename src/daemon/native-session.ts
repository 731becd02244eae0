/** The main thread serves through fuse-native. */

import { Qcow2fsError } from '../errors.ts';
import type { FileSystem } from '../filesystem/file-system.ts';
import { requireDevice } from '../fuse/device-file.ts';
import { escapeOption, isAllowOtherAllowed, NO_ALLOW_OTHER, requireOldFusermount } from '../fuse/fusermount.ts';
import { commonOptions, FSTYPE, mountError, requireMount } from '../fuse/kernel-mount.ts';
import { isRoot } from '../fuse/mounter.ts';
import { isMounted } from '../fuse/mountinfo.ts';
import type { FuseNativeConstructor } from '../fuse-native/fuse-native-types.ts';
import { mountFuseNative } from '../fuse-native/mount-fuse-native.ts';
import type { ServedImages } from './served-images.ts';
import type { Session } from './session.ts';
import { withResolvers } from './with-resolvers.ts';
import type { PoolEnd } from './worker-pool.ts';

export function createNativeSession(
  Fuse: FuseNativeConstructor,
  served: ServedImages,
  createFileSystem: (served: ServedImages) => FileSystem,
): Session {
  const ended = withResolvers<PoolEnd>();
  let fileSystem: FileSystem | undefined;
  const current = () => {
    if (fileSystem === undefined) throw new Qcow2fsError('INTERNAL', 'the session was not started');
    return fileSystem;
  };
  return {
    ended: ended.promise,
    async start() {
      requireDevice();
      if (!isRoot()) requireOldFusermount();
      fileSystem = createFileSystem(served);
    },
    async mount(mountpoint, options) {
      // libfuse would only say that it failed.
      if (options.allowOther && !isRoot() && !isAllowOtherAllowed()) throw mountError(mountpoint, NO_ALLOW_OTHER);
      const native = await mountFuseNative(Fuse, current, mountpoint, {
        words: commonOptions(options),
        subtype: FSTYPE.replace('fuse.', ''),
        source: escapeOption(options.source),
      });
      const mount = requireMount(mountpoint);
      // libfuse leaves an aborted connection where it is mounted.
      void native.ended.then(() => ended.resolve(isMounted(mount) ? 'aborted' : 'unmounted'));
      return { mount };
    },
    // The tree can be read once it is mounted.
    serve: async () => {},
    // All is served on this thread, so that nothing is under way now; and what libfuse has cached is old in a moment.
    async replace(next) {
      fileSystem = createFileSystem(next);
    },
    close: async () => {},
    abandon: async () => {},
  };
}
