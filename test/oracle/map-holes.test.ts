/** Maps of files that have holes themselves: QEMU asks the file system for these, with lseek(2). */

import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { runCommand, tryCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { createImage, createSnapshot, mapText, runQemuIo } from './qemu.ts';

const QCOW2FS = path.resolve(import.meta.dirname, '../../bin/qcow2fs');

const ourMap = (image: string, ...args: string[]) => runCommand(QCOW2FS, ['map', '--json', image, ...args]);

function writeSparseRaw(file: string, sizeBytes: number): void {
  fs.writeFileSync(file, '');
  fs.truncateSync(file, sizeBytes);
  const fd = fs.openSync(file, 'r+');
  for (const at of [65536, 131072 + 4096, 1 << 20]) fs.writeSync(fd, Buffer.alloc(8192, 7), 0, 8192, at);
  fs.closeSync(fd);
}

describe('map', () => {
  it('tells the holes of a raw backing file as zeros', () =>
    withTemporaryFolder((folder) => {
      for (const size of [2 << 20, (2 << 20) + 100]) {
        const image = `${folder}/${size}.qcow2`;
        writeSparseRaw(`${folder}/${size}.raw`, size);
        createImage(image, { sizeBytes: 4 << 20, backing: { name: `${size}.raw`, format: 'raw' } });
        runQemuIo(image, ['write -q 0 64k', 'write -q -z 512k 128k']);
        expect(ourMap(image)).toBe(mapText(image));
      }
    }));

  it.each([
    ['preallocation=metadata'],
    ['preallocation=metadata,extended_l2=on'],
    ['preallocation=falloc'],
    ['preallocation=full'],
  ])('tells clusters that are holes of the image file as both data and zeros: %s', (options) =>
    withTemporaryFolder((folder) => {
      const image = `${folder}/image.qcow2`;
      createImage(image, { sizeBytes: 8 << 20, options: [options] });
      expect(ourMap(image)).toBe(mapText(image));
      runQemuIo(image, ['write -q 1M 100k', 'write -q -z 3M 1M', 'discard -q 5M 1M']);
      expect(ourMap(image)).toBe(mapText(image));
    }),
  );

  it('is the same for an image that was copied with holes', () =>
    withTemporaryFolder((folder) => {
      const [image, copy] = [`${folder}/image.qcow2`, `${folder}/copy.qcow2`];
      createImage(image, { sizeBytes: 64 << 20 });
      runQemuIo(image, ['write -q -P 0 0 8M', 'write -q -P 3 8M 64k', 'write -q -P 0 16M 1M']);
      runCommand('cp', ['--sparse=always', image, copy]);
      expect(mapText(copy)).toContain('"zero": true, "data": true');
      expect(ourMap(copy)).toBe(mapText(copy));
    }));

  it('is that of a state: of a disk without bytes, and of one without a table of its own', () =>
    withTemporaryFolder((folder) => {
      const image = `${folder}/image.qcow2`;
      createImage(image, { sizeBytes: 0 });
      expect(ourMap(image)).toBe(mapText(image));
      runCommand('qemu-img', ['resize', '-q', image, '3M']);
      createSnapshot(image, 'empty');
      runQemuIo(image, ['write -q 1M 64k']);
      expect(ourMap(image)).toBe(mapText(image));
      const [entry] = JSON.parse(ourMap(image, 'empty'));
      expect(entry).toEqual({ start: 0, length: 3 << 20, depth: 0, present: false, zero: true, data: false });
    }));

  it('without the backing file says what is not known, and with another one what that has', () =>
    withTemporaryFolder((folder) => {
      const image = `${folder}/image.qcow2`;
      createImage(`${folder}/base.qcow2`, { sizeBytes: 1 << 20 });
      runQemuIo(`${folder}/base.qcow2`, ['write -q 0 64k']);
      createImage(image, { sizeBytes: 1 << 20, backing: { name: 'base.qcow2', format: 'qcow2' } });
      const whole = ourMap(image);
      fs.renameSync(`${folder}/base.qcow2`, `${folder}/moved.qcow2`);
      expect(tryCommand(QCOW2FS, ['map', image])).toMatchObject({ status: 1, stdout: '' });
      expect(ourMap(image, '--backing', `${folder}/moved.qcow2`)).toBe(whole);
      expect(JSON.parse(ourMap(image, '--no-backing'))).toEqual([
        { start: 0, length: 1 << 20, depth: 1, present: false, zero: false, data: false },
      ]);
    }));
});
