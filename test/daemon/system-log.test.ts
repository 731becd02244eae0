/** Without a log file, the warnings of a daemon in the background go to the system log. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import path from 'node:path';
import { expect, test } from 'vitest';
import { BACKGROUND_SCRIPT, TEST_DAEMON, waitUntil, withPlace } from './mounting.ts';

/**
 * $1 folder, $2 mountpoint, then the command that mounts. In a mount namespace of its own /dev has our socket as /dev/log, so
 * that the machine's own log, if it has one, is not touched.
 */
const SCRIPT = `
set -e
# Mounts of other tests were copied, and would keep their daemons from ending.
umount -l -a -t fuse.qcow2fs
folder=$1 mountpoint=$2
shift 2
mkdir "$folder/dev"
for device in null zero urandom fuse; do
  touch "$folder/dev/$device"
  mount --bind "/dev/$device" "$folder/dev/$device"
done
ln -s "$folder/socket" "$folder/dev/log"
mount --rbind "$folder/dev" /dev
"$@"
dd if="$mountpoint/broken" of=/dev/null count=1 2> /dev/null && exit 1
umount "$mountpoint"
`;

test('warnings go to the system log', () =>
  withPlace(async ({ folder, mountpoint }) => {
    let received = '';
    const server = net.createServer((socket) => {
      socket.on('data', (text) => {
        received += text.toString();
      });
    });
    server.listen(path.join(folder, 'socket'));
    await once(server, 'listening');
    try {
      const mount = [process.execPath, BACKGROUND_SCRIPT, '/images/test', mountpoint, TEST_DAEMON.href];
      const child = spawn('unshare', ['-m', 'sh', '-c', SCRIPT, 'sh', folder, mountpoint, ...mount], {
        stdio: 'inherit',
      });
      expect(await once(child, 'exit')).toEqual([0, null]);
      await waitUntil(() => received.includes('this file is always broken'));
      expect(received).toMatch(/qcow2fs: qcow2fs: this file is always broken/);
    } finally {
      server.close();
    }
  }));
