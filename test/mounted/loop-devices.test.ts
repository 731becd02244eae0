/** File systems in a snapshot, mounted through a loop device over the mount. */

import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { createSnapshot, runQemuIo } from '../oracle/qemu.ts';
import { withMount } from '../support/mounted-image.ts';
import { runCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { fillFileSystem, makeSourceTree, withBlockDeviceMount, withLoopDevice } from './block-devices.ts';

const MIB = 1024 * 1024;

interface FileSystemCase {
  readonly type: string;
  /** mkfs.xfs refuses anything below 300 MiB. */
  readonly sizeBytes: number;
  readonly mkfs: readonly string[];
}

const FILE_SYSTEMS: readonly FileSystemCase[] = [
  { type: 'ext4', sizeBytes: 32 * MIB, mkfs: ['mkfs.ext4', '-q'] },
  { type: 'xfs', sizeBytes: 320 * MIB, mkfs: ['mkfs.xfs', '-q'] },
];

describe.each(FILE_SYSTEMS)('an $type in a snapshot', (fileSystem) => {
  it.each(['off', 'on'])('is mounted with its files, with direct I/O of the loop device %s', (directIo) =>
    withTemporaryFolder(async (folder) => {
      const source = makeSourceTree(folder);
      const image = makeImage(folder, fileSystem, source);
      await withMount(image, async (mountpoint) => {
        const disk = `${mountpoint}/snapshots/with files/disk.raw`;
        await withLoopDevice(['-r', `--direct-io=${directIo}`, disk], (device) =>
          withBlockDeviceMount(device, ['-o', 'ro'], folder, (mounted) => {
            runCommand('diff', ['-r', '--exclude=lost+found', source, mounted]);
            expect(fs.readdirSync(mounted)).toContain('deep');
          }),
        );
      });
    }),
  );
});

/** An image with a snapshot `with files`, whose current state is all zeros: what is found can only be the snapshot's. */
function makeImage(folder: string, { mkfs, sizeBytes }: FileSystemCase, source: string): string {
  const raw = path.join(folder, 'disk.raw');
  fs.writeFileSync(raw, '');
  fs.truncateSync(raw, sizeBytes);
  const [command = '', ...args] = mkfs;
  runCommand(command, [...args, raw]);
  fillFileSystem(folder, raw, source);
  const image = path.join(folder, 'image.qcow2');
  runCommand('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, image]);
  createSnapshot(image, 'with files');
  runQemuIo(image, [`write -q -z -u 0 ${sizeBytes}`]);
  return image;
}
