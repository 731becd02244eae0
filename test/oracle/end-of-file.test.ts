/** Images that end inside their last cluster, and images that were cut: beside QEMU, which reads zeros in both. */

import fs from 'node:fs';
import { describe, expect, test } from 'vitest';
import { closeImage, openImage } from '../../src/open-image/open-image.ts';
import { StateDisks } from '../../src/open-image/state-disks.ts';
import { catchError } from '../support/catch-error.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { withPassphrase } from '../support/with-passphrase.ts';
import { createEncryptedImage, encryptedTrueStates, growEncrypted, writeEncrypted } from './encrypted.ts';
import { checkWithQemu, createImage, createSnapshot, runQemuIo, runQemuIoAndAbort } from './qemu.ts';
import { lastHostOffset, readByQemu, readByUs } from './read-state.ts';
import { trueStates } from './truth.ts';

const KIB = 1024;
const SIZE = 1024 * KIB + 512;

/** Takes the last `bytes` bytes off the file, which must be zeros that nobody wrote. */
function dropTail(path: string, bytes: number): void {
  const { size } = fs.statSync(path);
  expect(
    fs
      .readFileSync(path)
      .subarray(size - bytes)
      .equals(Buffer.alloc(bytes)),
  ).toBe(true);
  fs.truncateSync(path, size - bytes);
}

/**
 * An image whose last cluster is the guest's last one, of which the guest has 512 bytes and nobody wrote a byte: a file
 * may do without it.
 */
function createPreallocated(path: string, options: readonly string[], clusterBytes: number): void {
  createImage(path, { sizeBytes: SIZE, options: [...options, 'preallocation=metadata'] });
  runQemuIo(path, ['write -q -P 7 0 900k', 'write -q -P 9 1000k 3k']);
  expect(fs.statSync(path).size % clusterBytes).toBe(0);
  expect(lastHostOffset(path)).toBeGreaterThan(fs.statSync(path).size - clusterBytes);
}

const LAYOUTS: readonly [clusterBytes: number, options: readonly string[]][] = [
  [64 * KIB, ['cluster_size=64k']],
  [64 * KIB, ['cluster_size=64k', 'compat=0.10']],
  [4 * KIB, ['cluster_size=4k']],
  [4 * KIB, ['cluster_size=4k', 'refcount_bits=1']],
  [16 * KIB, ['cluster_size=16k', 'refcount_bits=64']],
  [2048 * KIB, ['cluster_size=2M', 'refcount_bits=2']],
];

describe('a healthy image that ends inside its last cluster', () => {
  test.each(LAYOUTS)('is zeros there (clusters of %i: %j)', (clusterBytes, options) =>
    withTemporaryFolder((folder) => {
      const path = `${folder}/disk.qcow2`;
      createPreallocated(path, options, clusterBytes);
      const truth = readByQemu(path);
      // One cluster of 2 MiB holds the whole disk.
      const unwritten = clusterBytes > SIZE ? clusterBytes - 1003 * KIB : clusterBytes;
      for (const tailBytes of [512, unwritten - 512, unwritten - 1]) {
        fs.copyFileSync(path, `${path}.cut`);
        dropTail(`${path}.cut`, tailBytes);
        expect(checkWithQemu(`${path}.cut`).status).toBe(0);
        expect(readByUs(`${path}.cut`).equals(truth)).toBe(true);
        expect(readByQemu(`${path}.cut`).equals(truth)).toBe(true);
      }
    }),
  );

  test('is read as it is where QEMU itself ends it so: subclusters', () =>
    withTemporaryFolder((folder) => {
      const path = `${folder}/disk.qcow2`;
      createImage(path, { sizeBytes: SIZE, options: ['extended_l2=on', 'preallocation=metadata'] });
      expect(fs.statSync(path).size % (64 * KIB)).toBe(2 * KIB);
      expect(readByUs(path).equals(readByQemu(path))).toBe(true);
      fs.truncateSync(path, fs.statSync(path).size - 2 * KIB + 1);
      expect(readByUs(path).equals(readByQemu(path))).toBe(true);
    }));

  test('is zeros in its snapshots and below an overlay, too', () =>
    withTemporaryFolder((folder) => {
      const path = `${folder}/disk.qcow2`;
      createImage(path, { sizeBytes: SIZE, options: ['cluster_size=64k'] });
      runQemuIo(path, ['write -q -P 7 0 512k', 'write -q -P 8 700k 1k', `write -q -P 0 ${SIZE - 512} 512`]);
      // What a snapshot needs takes the place of what was here: the guest's cluster stays the last one.
      runQemuIo(path, ['discard -q 0 512k']);
      createSnapshot(path, 'monday');
      const { size } = fs.statSync(path);
      expect(lastHostOffset(path)).toBeGreaterThan(size - 64 * KIB);
      dropTail(path, 64 * KIB - 100);
      const [current, monday] = trueStates(path, folder).map(({ rawPath }) => fs.readFileSync(rawPath));
      expect(readByUs(path).equals(current ?? Buffer.alloc(0))).toBe(true);
      expect(readByUs(path, { state: 1 }).equals(monday ?? Buffer.alloc(0))).toBe(true);
      createImage(`${folder}/overlay.qcow2`, { sizeBytes: SIZE, backing: { name: 'disk.qcow2', format: 'qcow2' } });
      expect(readByUs(`${folder}/overlay.qcow2`).equals(current ?? Buffer.alloc(0))).toBe(true);
    }));

  test('is what QEMU decrypts it to where it is encrypted, as all that is only preallocated', () =>
    withTemporaryFolder((folder) => {
      const image = { path: `${folder}/disk.qcow2`, passphrase: 'secret' };
      const sizeBytes = 1024 * KIB;
      createEncryptedImage({ ...image, options: ['encrypt.format=luks', 'encrypt.iter-time=10'], sizeBytes });
      writeEncrypted(image, ['write -q -P 7 0 900k']);
      // Only what it grows by lies behind the header of LUKS.
      growEncrypted(image, sizeBytes + 3 * 64 * KIB);
      const { size } = fs.statSync(image.path);
      const keys = withPassphrase(Buffer.from('secret'));
      for (const tailBytes of [64 * KIB - 100, 64 * KIB + 100]) {
        dropTail(image.path, tailBytes - (size - fs.statSync(image.path).size));
        const [truth] = encryptedTrueStates(image, folder).map(({ rawPath }) => fs.readFileSync(rawPath));
        expect(truth?.subarray(-64 * KIB).equals(Buffer.alloc(64 * KIB))).toBe(false);
        if (tailBytes < 64 * KIB) expect(readByUs(image.path, { keys }).equals(truth ?? Buffer.alloc(0))).toBe(true);
        // The very last cluster is missing as a whole: no healthy image is like that.
        else expect(catchError(() => readByUs(image.path, { keys })).code).toMatch(/^(PAST_END|DAMAGED)$/);
      }
    }));
});

describe('an image that was cut', () => {
  test.each(LAYOUTS)('is an error where bytes are missing (clusters of %i: %j)', (clusterBytes, options) =>
    withTemporaryFolder((folder) => {
      const path = `${folder}/disk.qcow2`;
      createImage(path, { sizeBytes: 5 * 2048 * KIB, options });
      runQemuIo(path, ['write -q -P 7 0 10M']);
      const end = lastHostOffset(path);
      const lostClusterCount = 2;
      fs.truncateSync(path, end - lostClusterCount * clusterBytes - 512);
      const image = openImage(path);
      try {
        const disk = new StateDisks(image).disk(0);
        const target = Buffer.alloc(512);
        const at = disk.sizeBytes - lostClusterCount * clusterBytes;
        // What is there of the cut cluster can be read.
        disk.readAt(target, 0, at - 1024, 512);
        expect(target).toEqual(Buffer.alloc(512, 7));
        const cut = catchError(() => disk.readAt(target, 0, at - 512, 512));
        expect(cut.code).toBe('DAMAGED');
        expect(cut.message).toContain(
          `the cluster at offset ${end - lostClusterCount * clusterBytes}, behind the end, is in use as well`,
        );
        expect(catchError(() => disk.readAt(target, 0, at, 512)).code).toBe('PAST_END');
      } finally {
        closeImage(image);
      }
    }),
  );

  test.each<[string, (file: Buffer) => void, string]>([
    ['whose refcount table is past the end', (file) => file.writeBigUInt64BE(1n << 40n, 48), 'refcount table'],
    ['whose refcount table is not aligned', (file) => file.writeBigUInt64BE(512n, 48), 'refcount_table_offset'],
    [
      'whose refcount block is past the end',
      (file) => file.writeBigUInt64BE(1n << 40n, Number(file.readBigUInt64BE(48))),
      'refcount block',
    ],
    [
      'whose refcount block is not aligned',
      (file) => file.writeBigUInt64BE(0x20200n, Number(file.readBigUInt64BE(48))),
      'is 131584, which is not cluster aligned',
    ],
    [
      'without refcounts',
      (file) => file.writeBigUInt64BE(0n, Number(file.readBigUInt64BE(48))),
      'the refcount of its last cluster',
    ],
  ])('may be one %s, so its last cluster is an error', (_, damage, reason) =>
    withTemporaryFolder((folder) => {
      const path = `${folder}/disk.qcow2`;
      createPreallocated(path, [], 64 * KIB);
      dropTail(path, 64 * KIB - 100);
      expect(readByUs(path).length).toBe(SIZE);
      const file = fs.readFileSync(path);
      damage(file);
      fs.writeFileSync(path, file);
      const error = catchError(() => readByUs(path));
      expect(error.code).toBe('DAMAGED');
      expect(error.message).toContain('whether more is missing cannot be told: ');
      expect(error.message).toContain(reason);
    }),
  );

  test('may be a dirty one: its refcounts are not up to date', () =>
    withTemporaryFolder((folder) => {
      const path = `${folder}/disk.qcow2`;
      createImage(path, { sizeBytes: SIZE, options: ['lazy_refcounts=on'] });
      runQemuIoAndAbort(path, ['write -q -P 1 64k 512'], folder);
      dropTail(path, 64 * KIB - 512);
      expect(catchError(() => readByUs(path)).message).toContain('marked as dirty');
    }));
});

describe('tables', () => {
  test.each(['512', '4096', '65536', '2097152'])(
    'are written whole by QEMU, also at the end of the file (clusters of %s)',
    (clusterBytes) =>
      withTemporaryFolder((folder) => {
        const path = `${folder}/disk.qcow2`;
        createImage(path, { sizeBytes: 64 * 1024 * KIB, options: [`cluster_size=${clusterBytes}`] });
        // Without data, the new L2 table is the last thing in the file.
        runQemuIo(path, [`write -q -z 0 ${clusterBytes}`]);
        const file = fs.readFileSync(path);
        const l2Offset = Number(file.readBigUInt64BE(Number(file.readBigUInt64BE(40))) & 0xff_ffff_ffff_fe00n);
        expect(l2Offset + Number(clusterBytes)).toBe(file.length);
      }),
  );

  test('are an error where they are cut', () =>
    withTemporaryFolder((folder) => {
      const path = `${folder}/disk.qcow2`;
      createImage(path, { sizeBytes: SIZE });
      runQemuIo(path, ['write -q -z 0 64k']);
      fs.truncateSync(path, fs.statSync(path).size - 64 * KIB + 8);
      expect(catchError(() => readByUs(path)).message).toContain('an L2 table entry');
    }));
});
