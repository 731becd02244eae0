/** qcowmount of libqcow. */

import fs from 'node:fs';
import path from 'node:path';
import { run, runAnyway, undoLater } from '../run.mjs';
import { isMounted, processesNaming, waitForEnd } from './processes.mjs';

export const qcowmount = {
  name: 'qcowmount',
  programs: ['qcowmount'],
  cannot({ passphraseFile, views }) {
    if (views.some(({ snapshot }) => snapshot !== undefined)) return 'it shows the current state only';
    return passphraseFile === undefined ? undefined : 'it does not know LUKS';
  },
  async start({ image }, folder) {
    const mountpoint = path.join(folder, 'qcowmount');
    fs.mkdirSync(mountpoint, { recursive: true });
    undoLater(async () => {
      const pids = processesNaming(mountpoint);
      if (isMounted(mountpoint)) await runAnyway('umount', ['-l', mountpoint]);
      await waitForEnd(pids);
    });
    // It goes into the background once it has mounted.
    await run('qcowmount', [image, mountpoint]);
    return { files: [path.join(mountpoint, 'qcow1')], pids: () => processesNaming(mountpoint) };
  },
};
