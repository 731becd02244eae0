/** One way to serve a mount, from before it is made until it has ended. */

import type { CacheChange } from '../filesystem/cache-change.ts';
import type { KernelMountOptions } from '../fuse/kernel-mount.ts';
import type { Mount } from '../fuse/mountinfo.ts';
import type { ServedImages } from './served-images.ts';
import type { PoolEnd } from './worker-pool.ts';

export interface Session {
  /**
   * Resolves when nothing but the mount is missing.
   * @throws Qcow2fsError with what keeps it from serving; nothing is left behind.
   */
  start(): Promise<void>;
  /** @throws Qcow2fsError MOUNT. */
  mount(mountpoint: string, options: KernelMountOptions): Promise<{ readonly mount: Mount }>;
  /**
   * Resolves when the tree can be read.
   * @throws Qcow2fsError MOUNT.
   */
  serve(): Promise<void>;
  /**
   * Serves something newer from the next request on, and then tells the kernel what it must forget. Resolves when no request
   * looks at anything earlier any more.
   */
  replace(served: ServedImages, changes: readonly CacheChange[]): Promise<void>;
  /** Resolves when nobody uses the mount any more. */
  readonly ended: Promise<PoolEnd>;
  /** After the end. */
  close(): Promise<void>;
  /** Before the mount, or after one that failed. */
  abandon(): Promise<void>;
}
