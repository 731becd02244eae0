/** The thread of `CacheNotifier`. */

import { parentPort, workerData } from 'node:worker_threads';
import type { CacheChange } from '../filesystem/cache-change.ts';
import { writeDevice } from '../fuse/device.ts';
import { encodeInvalidateEntry, encodeInvalidateInode } from '../fuse/wire/notify.ts';
import type { NotifierData } from './cache-notifier.ts';

const { fd } = workerData as NotifierData;

parentPort?.on('message', (changes: readonly CacheChange[]) => {
  for (const change of changes) {
    const message =
      change.kind === 'entry' ? encodeInvalidateEntry(change.parent, change.name) : encodeInvalidateInode(change.node);
    // Errors only tell that nothing was cached, or that the mount has ended.
    writeDevice(fd, message, message.length);
  }
});
