/** The FUSE export of qemu-storage-daemon, over a file that the export hides. */

import fs from 'node:fs';
import path from 'node:path';
import { runAnyway, start, undoLater } from '../run.mjs';
import { isMounted, waitUntil } from './processes.mjs';

export const qemuStorageDaemon = {
  name: 'qemu-storage-daemon',
  programs: ['qemu-storage-daemon'],
  cannot: ({ views }) =>
    views.some(({ snapshot }) => snapshot !== undefined) ? 'it shows the current state only' : undefined,
  async start({ image, passphraseFile }, folder) {
    const file = path.join(folder, 'qemu-export');
    fs.writeFileSync(file, '');
    const secret = passphraseFile === undefined ? [] : ['--object', `secret,id=key,file=${passphraseFile}`];
    const encryption = passphraseFile === undefined ? '' : ',encrypt.format=luks,encrypt.key-secret=key';
    const daemon = start('qemu-storage-daemon', [
      ...secret,
      ...['--blockdev', `driver=file,node-name=file,filename=${image},read-only=on`],
      ...['--blockdev', `driver=qcow2,node-name=image,file=file,read-only=on${encryption}`],
      ...['--export', `type=fuse,id=export,node-name=image,mountpoint=${file},writable=off`],
    ]);
    undoLater(async () => {
      await daemon.stop();
      if (isMounted(file)) await runAnyway('umount', ['-l', file]);
    });
    await waitUntil(() => fs.statSync(file).size > 0, daemon, 'qemu-storage-daemon');
    return { files: [file], pids: () => [daemon.pid] };
  },
};
