/** Worker threads that speak to the kernel themselves. */

import fs from 'node:fs';
import type { KernelMount, Mounter } from '../fuse/kernel-mount.ts';
import { isRoot } from '../fuse/mounter.ts';
import { raiseReadAhead } from '../fuse/read-ahead.ts';
import { CacheNotifier } from './cache-notifier.ts';
import type { Session } from './session.ts';
import { WorkerPool, type WorkerPoolOptions } from './worker-pool.ts';

export function createKernelSession(mounter: Mounter, options: WorkerPoolOptions): Session {
  const pool = new WorkerPool(options);
  let kernelMount: KernelMount | undefined;
  let notifier: CacheNotifier | undefined;
  return {
    ended: pool.ended,
    start: () => pool.start(),
    async mount(mountpoint, mountOptions) {
      kernelMount = await mounter.mount(mountpoint, mountOptions);
      return kernelMount;
    },
    async serve() {
      if (kernelMount === undefined) return;
      await pool.serveMount(kernelMount.fd);
      if (isRoot()) raiseReadAhead(kernelMount.mount, options.served.readAheadBytes);
    },
    replace(served, changes) {
      const isUnused = pool.replace(served);
      if (kernelMount !== undefined) notifier ??= new CacheNotifier(kernelMount.fd);
      notifier?.send(changes);
      return isUnused;
    },
    async close() {
      await notifier?.close();
      // If no worker is left, this aborts the connection: who waits for a reply gets an error now.
      if (kernelMount !== undefined) fs.closeSync(kernelMount.fd);
    },
    abandon: () => pool.abandon(),
  };
}
