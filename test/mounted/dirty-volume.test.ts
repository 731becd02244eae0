/** What README.md says of the snapshot of a running machine, with the file systems of the kernel. */

import fs from 'node:fs';
import { expect, test } from 'vitest';
import { createSnapshot } from '../oracle/qemu.ts';
import { withMount } from '../support/mounted-image.ts';
import { runCommand, tryCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { MIB } from '../volumes/partitioned-disk.ts';
import { writeDirtyDisk } from './dirty-disk.ts';

const CASES = [
  { type: 'ext4', mkfs: ['mkfs.ext4', '-q'], sizeBytes: 32 * MIB, stale: 'noload' },
  { type: 'xfs', mkfs: ['mkfs.xfs', '-q'], sizeBytes: 300 * MIB, stale: 'norecovery' },
] as const;

/** Mounts with these options, and lists what is in the root; undefined if it cannot be mounted. */
function listMounted(file: string, options: string, folder: string): string[] | undefined {
  if (tryCommand('mount', ['-o', options, file, folder]).status !== 0) return undefined;
  try {
    return fs.readdirSync(folder).filter((name) => name.endsWith('.txt'));
  } finally {
    runCommand('umount', [folder]);
  }
}

test.each(CASES)('$type of a running machine: ro fails, $stale hides what is new, a copy has it', (fileSystem) =>
  withTemporaryFolder(async (folder) => {
    const [raw, dirty, image, mounted] = ['disk.raw', 'dirty.raw', 'disk.qcow2', 'mounted'].map((name) => {
      return `${folder}/${name}`;
    }) as [string, string, string, string];
    fs.mkdirSync(mounted);
    writeDirtyDisk(raw, dirty, mounted, fileSystem);
    runCommand('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', dirty, image]);
    createSnapshot(image, 'night');
    await withMount(image, (mountpoint) => {
      const night = `${mountpoint}/snapshots/night`;
      const volume = `${night}/volumes/disk.raw`;
      const { volumes } = JSON.parse(runCommand('cat', [`${night}/info.json`]));
      expect(volumes).toMatchObject([{ fileSystem: { type: fileSystem.type, dirty: true } }]);
      expect(listMounted(volume, 'ro,loop', mounted)).toBeUndefined();
      expect(listMounted(volume, `ro,loop,${fileSystem.stale}`, mounted)).toEqual(['old.txt']);
      const copy = `${folder}/copy.raw`;
      runCommand('cp', ['--sparse=auto', volume, copy]);
      expect(listMounted(copy, 'loop', mounted)?.sort()).toEqual(['new.txt', 'old.txt']);
    });
  }),
);
