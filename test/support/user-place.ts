/** A folder of the ordinary user with an image and an empty directory, and the program where that user can run it. */

import fs from 'node:fs';
import path from 'node:path';
import { copyInstalledPackage } from '../demo/package-copy.ts';
import { mountsBelow, processesNaming } from './leftovers.ts';
import { ordinaryUser } from './ordinary-user.ts';
import { tryCommand } from './run-command.ts';
import { withTemporaryFolder } from './temporary-folder.ts';

export interface UserPlace {
  readonly folder: string;
  readonly image: string;
  readonly mountpoint: string;
}

/** Runs `body` with a place that belongs to the user; mounts and daemons that are left in it are removed. */
export async function withUserPlace(
  makeImage: (path: string) => void,
  body: (place: UserPlace) => void | Promise<void>,
): Promise<void> {
  await withTemporaryFolder(async (folder) => {
    const place = { folder, image: path.join(folder, 'disk.qcow2'), mountpoint: path.join(folder, 'mnt') };
    makeImage(place.image);
    fs.mkdirSync(place.mountpoint);
    const { uid, gid } = ordinaryUser();
    for (const file of Object.values(place)) fs.chownSync(file, uid, gid);
    try {
      await body(place);
    } finally {
      for (const mountpoint of mountsBelow(folder)) tryCommand('umount', ['-l', '-c', '--', mountpoint]);
      for (const line of processesNaming(folder)) tryCommand('kill', ['-KILL', line.split(':', 1)[0] ?? '']);
    }
  });
}

/** Installs the package in `folder`: the checkout may lie where only root can pass. Returns its launcher. */
export function installForUsers(folder: string): string {
  copyInstalledPackage(folder);
  return path.join(folder, 'bin', 'qcow2fs');
}
