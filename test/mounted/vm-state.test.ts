/** The VM state that a real machine saves. */

import fs from 'node:fs';
import { describe, expect, test } from 'vitest';
import { snapshotEntry } from '../oracle/damage-sample.ts';
import { DamagedImage } from '../oracle/damaged-image.ts';
import { changeSnapshot, createEncryptedImage, type EncryptedImage, writeEncrypted } from '../oracle/encrypted.ts';
import { runMachine, VM_STATE_OFFSET, vmStateByQemu } from '../oracle/vm-state.ts';
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
      expect(fs.readdirSync(`${mountpoint}/snapshots/disk only`).sort()).toEqual(['disk.raw', 'info.json', 'volumes']);
    });
  }));

/**
 * QEMU 7.2 aborts when it saves a machine into an encrypted image, or loads one from it: pieces of the stream are no multiple
 * of a sector. So a real stream is written, by QEMU, where the VM state of an encrypted image is.
 */
function makeEncryptedVmState(folder: string, vmState: Buffer, options: readonly string[]): EncryptedImage {
  const image = {
    path: `${folder}/secret.qcow2`,
    passphrase: 'geheim',
    options,
    sizeBytes: VM_STATE_OFFSET + (64 << 20),
  };
  createEncryptedImage(image);
  const padded = Buffer.alloc(Math.ceil(vmState.length / 512) * 512);
  vmState.copy(padded);
  fs.writeFileSync(`${folder}/stream`, padded);
  writeEncrypted(image, ['write -q -P 7 0 1M', `write -q -s ${folder}/stream ${VM_STATE_OFFSET} ${padded.length}`]);
  changeSnapshot(image, '-c', 'one');
  const file = new DamagedImage(image.path);
  const entry = snapshotEntry(file, 0);
  file.writeU32(entry + 32, vmState.length);
  file.writeU64(entry + 40, BigInt(vmState.length));
  // The disk ends before it, as that of the plain image.
  file.writeU64(entry + 48, BigInt(DISK_BYTES));
  file.writeU64(24, BigInt(DISK_BYTES));
  file.close();
  return image;
}

describe('vmstate.bin of an encrypted image', () => {
  test.each([
    ['LUKS', ['encrypt.format=luks', 'encrypt.iter-time=10']],
    // Its sectors are numbered by their place on the disk, which the VM state lies behind.
    ['legacy AES', ['encrypt.format=aes']],
  ])('is decrypted: %s', (_, options) =>
    withTemporaryFolder(async (folder) => {
      const plain = `${folder}/machine.qcow2`;
      runCommand('qemu-img', ['create', '-q', '-f', 'qcow2', plain, String(DISK_BYTES)]);
      runMachine(plain, ['savevm one']);
      const { snapshots } = JSON.parse(runCommand('qemu-img', ['info', '--output=json', plain])) as {
        snapshots: { id: string; 'vm-state-size': number }[];
      };
      const vmState = vmStateByQemu(folder, plain, '1', snapshots[0]?.['vm-state-size'] ?? 0);
      const { path } = makeEncryptedVmState(folder, vmState, options);
      fs.writeFileSync(`${folder}/passphrase`, 'geheim');
      await withMount(
        path,
        (mountpoint) => {
          const shown = fs.readFileSync(`${mountpoint}/snapshots/one/vmstate.bin`);
          expect(shown.toString('latin1', 0, 4)).toBe('QEVM');
          expect(shown.equals(vmState)).toBe(true);
          expect(fs.statSync(`${mountpoint}/snapshots/one/disk.raw`).size).toBe(DISK_BYTES);
        },
        { options: ['--passphrase-file', `${folder}/passphrase`] },
      );
    }),
  );
});
