/** The end of a file system on a loop device. */

import { runCommand } from './run-command.ts';

const PATIENCE_MS = 30_000;
const INTERVAL_MS = 50;

/**
 * Unmounts `folder`, and returns when `file`, which was mounted there with `-o loop`, is whole. umount(8) returns while somebody
 * else still has the file system: a mount namespace that was made meanwhile, such as one of `qcow2fs exec`, has a copy of every
 * mount.
 */
export function unmountLoop(file: string, folder: string): void {
  runCommand('umount', [folder]);
  const deadline = performance.now() + PATIENCE_MS;
  while (runCommand('losetup', ['--associated', file]) !== '') {
    if (performance.now() > deadline) throw new Error(`${file} is in use ${PATIENCE_MS} ms after it was unmounted`);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, INTERVAL_MS);
  }
}
