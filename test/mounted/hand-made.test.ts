/** An image as people make it by hand, with snapshot names that are not file names. */

import fs from 'node:fs';
import { expect, it } from 'vitest';
import { applySnapshot, convertToRaw, createImage, createSnapshot, listSnapshots, runQemuIo } from '../oracle/qemu.ts';
import { sha256OfFile } from '../support/hash.ts';
import { withMount } from '../support/mounted-image.ts';
import { runCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

/** Snapshot names as bytes, with the file names that stand for them. */
const NAMES: readonly (readonly [name: string, fileName: string])[] = [
  ['monday', 'monday'],
  ['a/b', 'a%2Fb'],
  ['..', '%2E%2E'],
  ['.', '%2E'],
  ['', '%empty'],
  ['100%', '100%25'],
  ['two\nlines', 'two%0Alines'],
  ['grün 日本', 'grün 日本'],
  ['../../etc/passwd', '..%2F..%2Fetc%2Fpasswd'],
  ['-rf', '-rf'],
];

it('shows each snapshot of an image made by hand under an escaped name, with QEMU’s bytes', () =>
  withTemporaryFolder(async (folder) => {
    const image = `${folder}/disk.qcow2`;
    createImage(image, { sizeBytes: 8 * 1024 * 1024 });
    for (const [index, [name]] of NAMES.entries()) {
      runQemuIo(image, [`write -q -P ${index + 1} ${index * 100}k 300k`]);
      createSnapshot(image, name);
    }
    runQemuIo(image, ['write -q -P 99 1M 2M']);
    await withMount(image, (mountpoint) => {
      expect(fs.readdirSync(`${mountpoint}/snapshots`).sort()).toEqual(NAMES.map(([, fileName]) => fileName).sort());
      expect(fs.readdirSync(`${mountpoint}/by-id`).sort()).toEqual(NAMES.map((_, index) => String(index + 1)).sort());
      for (const [index, { id, name }] of listSnapshots(image).entries()) {
        const fileName = NAMES[index]?.[1] ?? '';
        const truth = snapshotBytes(image, id, folder);
        expect(sha256OfFile(`${mountpoint}/snapshots/${fileName}/disk.raw`), name).toBe(truth);
        expect(sha256OfFile(`${mountpoint}/by-id/${id}/disk.raw`), name).toBe(truth);
        expect(fs.readlinkSync(`${mountpoint}/by-id/${id}`)).toBe(`../snapshots/${fileName}`);
        expect(attribute(`${mountpoint}/snapshots/${fileName}/disk.raw`, 'user.qcow2.name')).toBe(name);
        expect(attribute(`${mountpoint}/snapshots/${fileName}`, 'user.qcow2.id')).toBe(id);
      }
      convertToRaw(image, `${folder}/current.raw`);
      expect(sha256OfFile(`${mountpoint}/current/disk.raw`)).toBe(sha256OfFile(`${folder}/current.raw`));
    });
  }));

function snapshotBytes(image: string, id: string, folder: string): string {
  fs.copyFileSync(image, `${folder}/copy.qcow2`);
  applySnapshot(`${folder}/copy.qcow2`, id);
  convertToRaw(`${folder}/copy.qcow2`, `${folder}/copy.raw`);
  return sha256OfFile(`${folder}/copy.raw`);
}

function attribute(file: string, name: string): string {
  return runCommand('getfattr', ['--absolute-names', '--only-values', '-n', name, file]);
}
