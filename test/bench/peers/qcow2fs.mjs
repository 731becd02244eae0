/** What all this is about, through either of its transports. */

import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { checkInterrupted, runAnyway, undoLater } from '../run.mjs';
import { isMounted, processesNaming } from './processes.mjs';

const QCOW2FS = fileURLToPath(new URL('../../../bin/qcow2fs', import.meta.url));

export const qcow2fs = throughTransport('qcow2fs', 'kernel');
export const qcow2fsThroughFuseNative = throughTransport('qcow2fs, fuse-native', 'fuse-native');

function throughTransport(name, transport) {
  return {
    name,
    programs: [],
    isOurs: true,
    cannot: () => undefined,
    async start({ image, passphraseFile, views }, folder) {
      const mountpoint = path.join(folder, `mount-${transport}`);
      fs.mkdirSync(mountpoint, { recursive: true });
      undoLater(async () => {
        if (isMounted(mountpoint)) await runAnyway(QCOW2FS, ['umount', mountpoint]);
      });
      const options = passphraseFile === undefined ? [] : ['--passphrase-file', passphraseFile];
      await runAnyway(QCOW2FS, ['mount', '--transport', transport, ...options, image, mountpoint]);
      checkInterrupted();
      const folderOf = ({ snapshot }) => (snapshot === undefined ? 'current' : `snapshots/${snapshot}`);
      return {
        files: views.map((view) => path.join(mountpoint, folderOf(view), 'disk.raw')),
        pids: () => processesNaming(mountpoint),
      };
    },
  };
}
