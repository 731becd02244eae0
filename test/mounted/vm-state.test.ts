/** The VM state that a real machine saves. */

import fs from 'node:fs';
import { expect, test } from 'vitest';
import { runMachine, vmStateByQemu } from '../oracle/vm-state.ts';
import { withMount } from '../support/mounted-image.ts';
import { runCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

const DISK_BYTES = 64 << 20;

test('vmstate.bin is what QEMU saved, to the byte, and only in snapshots that have it', () =>
  withTemporaryFolder(async (folder) => {
    const image = `${folder}/machine.qcow2`;
    runCommand('qemu-img', ['create', '-q', '-f', 'qcow2', image, String(DISK_BYTES)]);
    runMachine(image, ['savevm one', 'qemu-io disk "write -P 7 0 1M"', 'savevm two']);
    runCommand('qemu-img', ['snapshot', '-c', 'disk only', image]);
    const { snapshots } = JSON.parse(runCommand('qemu-img', ['info', '--output=json', image])) as {
      snapshots: { id: string; name: string; 'vm-state-size': number }[];
    };
    expect(snapshots.map(({ name }) => name)).toEqual(['one', 'two', 'disk only']);
    await withMount(image, (mountpoint) => {
      for (const { id, name, 'vm-state-size': size } of snapshots.slice(0, 2)) {
        const bytes = fs.readFileSync(`${mountpoint}/snapshots/${name}/vmstate.bin`);
        expect(bytes.length).toBe(size);
        expect(bytes.toString('latin1', 0, 4)).toBe('QEVM');
        expect(bytes.equals(vmStateByQemu(folder, image, id, size))).toBe(true);
      }
      expect(fs.readdirSync(`${mountpoint}/snapshots/disk only`).sort()).toEqual(['disk.raw', 'info.json']);
    });
  }));
