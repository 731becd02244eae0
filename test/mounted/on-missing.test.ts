/** What a mount does about an image file that was cut. */

import fs from 'node:fs';
import { expect, test } from 'vitest';
import { convertToRaw, createImage, createSnapshot, runQemuIo } from '../oracle/qemu.ts';
import { withMount } from '../support/mounted-image.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

const MIB = 1 << 20;

/** The snapshot is whole, the current state has lost its last clusters. */
function createCutImage(folder: string): string {
  const image = `${folder}/disk.qcow2`;
  createImage(image, { sizeBytes: 8 * MIB });
  runQemuIo(image, ['write -q -P 1 0 2M']);
  createSnapshot(image, 'monday');
  runQemuIo(image, ['write -q -P 2 1M 4M']);
  fs.truncateSync(image, fs.statSync(image).size - MIB - 100);
  return image;
}

test('without a word about it, reads of what is missing fail, and image.json says so', () =>
  withTemporaryFolder(async (folder) => {
    await withMount(createCutImage(folder), (mountpoint) => {
      expect(() => fs.readFileSync(`${mountpoint}/current/disk.raw`)).toThrow(/EIO/);
      expect(fs.readFileSync(`${mountpoint}/snapshots/monday/disk.raw`).length).toBe(8 * MIB);
      expect(JSON.parse(fs.readFileSync(`${mountpoint}/image.json`, 'utf8')).onMissing).toBe('error');
    });
  }));

test('with --on-missing zero they are the zeros that QEMU reads; image.json tells, and the log counts', () =>
  withTemporaryFolder(async (folder) => {
    const image = createCutImage(folder);
    convertToRaw(image, `${folder}/truth.raw`);
    const log = `${folder}/log`;
    const options = ['--on-missing', 'zero', '--log-file', log];
    await withMount(
      image,
      (mountpoint) => {
        const truth = fs.readFileSync(`${folder}/truth.raw`);
        expect(fs.readFileSync(`${mountpoint}/current/disk.raw`).equals(truth)).toBe(true);
        expect(JSON.parse(fs.readFileSync(`${mountpoint}/image.json`, 'utf8')).onMissing).toBe('zero');
      },
      { options },
    );
    // The mount is gone before the process that logs the total is.
    await expect.poll(() => fs.readFileSync(log, 'utf8'), { timeout: 10_000 }).toMatch(/were read as zeros\n$/);
    const lines = fs.readFileSync(log, 'utf8').trimEnd().split('\n');
    expect(lines[0]).toMatch(/disk\.qcow2: a cluster at offset \d+ \(\d+ bytes\) lies past the end of the file/);
    expect(lines.at(-1)).toMatch(/disk\.qcow2: [1-9]\d* ranges past the end of its files were read as zeros$/);
    expect(lines.length).toBeLessThan(5);
  }));
