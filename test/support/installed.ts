/** qcow2fs as an installed program that mount(8) finds. */

import fs from 'node:fs';
import path from 'node:path';
import { packageFolder } from '../../src/demo/week.ts';
import { createImage, createSnapshot } from '../oracle/qemu.ts';
import { type CommandResult, tryCommand } from './run-command.ts';
import { withTemporaryFolder } from './temporary-folder.ts';

/** One of the folders in which /bin/sh looks without a PATH: mount(8) passes none to its helpers. */
const HELPER_FOLDER = '/usr/local/sbin';

export interface InstalledPlace {
  readonly folder: string;
  readonly image: string;
  readonly mountpoint: string;
  /** Runs a script of sh where qcow2fs is installed, and unmounts whatever it leaves. */
  readonly run: (script: string) => CommandResult;
}

/**
 * qcow2fs is installed in a mount namespace only, so that the machine never has it. The mounts are in there as well: the
 * namespace ends with the script, and would stay for a daemon that does not. It starts with a copy of all mounts there are:
 * those of other tests are let go, or their daemons would have to stay as long.
 */
export async function withInstalled(body: (place: InstalledPlace) => void): Promise<void> {
  await withTemporaryFolder((folder) => {
    const [image, mountpoint, programs] = [`${folder}/disk.qcow2`, `${folder}/mnt`, `${folder}/programs`];
    for (const name of [mountpoint, programs]) fs.mkdirSync(name);
    createImage(image, { sizeBytes: 1024 * 1024 });
    createSnapshot(image, 'monday');
    fs.symlinkSync(path.join(packageFolder, 'bin/qcow2fs'), `${programs}/qcow2fs`);
    fs.symlinkSync(process.execPath, `${programs}/node`);
    const cleanUp = `for point in $(findmnt --noheadings --raw --types fuse.qcow2fs --output TARGET | grep '^${folder}/'); do
      qcow2fs umount "$(printf %b "$point")" || umount -l "$(printf %b "$point")"; done`;
    const run = (script: string) =>
      tryCommand('unshare', [
        ...['--mount', '--propagation', 'private', 'sh', '-euc'],
        `umount -a -l -c -t fuse.qcow2fs || true; mount --bind ${programs} ${HELPER_FOLDER}; cd /; PATH=${programs}:$PATH; trap "$1" EXIT; eval "$2"`,
        ...['sh', cleanUp, script],
      ]);
    body({ folder, image, mountpoint, run });
  });
}
