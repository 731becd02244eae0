/** Images that end inside their last cluster, and images that were cut: beside QEMU, which reads zeros in both. */

import fs from 'node:fs';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { type KeySource, withoutKeys, withPassphrase } from '../../src/open-image/layer-keys.ts';
import { closeImage, openImage } from '../../src/open-image/open-image.ts';
import { StateDisks } from '../../src/open-image/state-disks.ts';
import { MissingRanges } from '../../src/storage/missing-ranges.ts';
import { catchError } from '../support/catch-error.ts';
import { tryCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { createEncryptedImage, encryptedTrueStates, writeEncrypted } from './encrypted.ts';
import {
  checkWithQemu,
  convertToRaw,
  createImage,
  createSnapshot,
  mapImage,
  runQemuIo,
  runQemuIoAndAbort,
} from './qemu.ts';
import { Random } from './random.ts';
import { trueStates } from './truth.ts';

const KIB = 1024;
const SIZE = 1024 * KIB + 512;

interface Reading {
  readonly state?: number;
  readonly keys?: KeySource;
  /** Given: zeros for what is missing. */
  readonly missing?: MissingRanges;
}

/** All bytes of a state as this reader sees them, in reads of `pieceBytes`. */
function readByUs(path: string, { state = 0, keys = withoutKeys, missing }: Reading = {}, pieceBytes = 40_000): Buffer {
  const image = openImage(path, keys);
  try {
    const disk = new StateDisks(image, missing).disk(state);
    const bytes = Buffer.alloc(disk.sizeBytes, 0xee);
    for (let at = 0; at < bytes.length; at += pieceBytes) {
      disk.readAt(bytes, at, at, Math.min(pieceBytes, bytes.length - at));
    }
    return bytes;
  } finally {
    closeImage(image);
  }
}

function readByQemu(path: string): Buffer {
  convertToRaw(path, `${path}.raw`);
  return fs.readFileSync(`${path}.raw`);
}

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

/** Where the guest's last cluster is in the file. */
function lastHostOffset(path: string): number {
  return Math.max(...mapImage(path).map(({ offset = 0, length }) => offset + length));
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

const LAYOUTS: readonly [clusterBytes: number, ...options: string[]][] = [
  [64 * KIB, 'cluster_size=64k'],
  [64 * KIB, 'cluster_size=64k', 'compat=0.10'],
  [4 * KIB, 'cluster_size=4k'],
  [4 * KIB, 'cluster_size=4k', 'refcount_bits=1'],
  [16 * KIB, 'cluster_size=16k', 'refcount_bits=64'],
  [2048 * KIB, 'cluster_size=2M', 'refcount_bits=2'],
];

describe('a healthy image that ends inside its last cluster', () => {
  test.each(LAYOUTS)('is zeros there (clusters of %i: %s %s)', (clusterBytes, ...options) =>
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
      const options = ['encrypt.format=luks', 'encrypt.iter-time=10', 'preallocation=metadata'];
      createEncryptedImage({ ...image, options, sizeBytes: SIZE });
      writeEncrypted(image, ['write -q -P 7 0 900k']);
      dropTail(image.path, 64 * KIB - 100);
      const [truth] = encryptedTrueStates(image, folder).map(({ rawPath }) => fs.readFileSync(rawPath));
      expect(truth?.subarray(-512)).not.toEqual(Buffer.alloc(512));
      expect(
        readByUs(image.path, { keys: withPassphrase(Buffer.from('secret')) }).equals(truth ?? Buffer.alloc(0)),
      ).toBe(true);
    }));
});

describe('an image that was cut', () => {
  test.each(LAYOUTS)('is an error where bytes are missing (clusters of %i: %s %s)', (clusterBytes, ...options) =>
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
  const perTable = { 512: 64, 4096: 512, 65536: 8192, 2097152: 262144 };

  test.each(Object.keys(perTable))(
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

describe('with zeros for what is missing', () => {
  const missing = () => new MissingRanges(MissingRanges.createMemory());
  let log: string[] = [];

  beforeEach(() => {
    log = [];
    vi.spyOn(process.stderr, 'write').mockImplementation((line) => log.push(String(line)) > 0);
  });
  afterEach(() => {
    vi.restoreAllMocks();
  });

  test('the log names the first of the ranges, and then ever fewer', () =>
    withTemporaryFolder((folder) => {
      const path = `${folder}/disk.qcow2`;
      createImage(path, { sizeBytes: SIZE });
      runQemuIo(path, ['write -q -P 7 0 1M']);
      fs.truncateSync(path, lastHostOffset(path) - 1024 * KIB + 512);
      const ranges = missing();
      const bytes = readByUs(path, { missing: ranges }, 1000);
      expect(bytes.subarray(0, 512).equals(Buffer.alloc(512, 7))).toBe(true);
      expect(bytes.subarray(512).equals(Buffer.alloc(SIZE - 512))).toBe(true);
      const clusterOffset = lastHostOffset(path) - 1024 * KIB;
      expect(log[0]).toContain(
        `${path}: a cluster at offset ${clusterOffset} (1000 bytes) lies past the end of the file`,
      );
      expect(log.slice(1).map((line) => Number(/: (\d+) ranges/.exec(line)?.[1]))).toEqual([10, 100, 1000]);
      expect(ranges.count).toBeGreaterThan(1000n);
    }));

  test.each([['cluster_size=64k'], ['cluster_size=4k'], ['extended_l2=on'], ['compression_type=zstd']])(
    'a cut image reads as QEMU reads it, wherever it was cut (%s)',
    (options) =>
      withTemporaryFolder((folder) => {
        const path = `${folder}/disk.qcow2`;
        const base = `${folder}/base.qcow2`;
        createImage(base, { sizeBytes: 8192 * KIB });
        runQemuIo(base, ['write -q -P 3 0 8M']);
        createImage(path, {
          sizeBytes: 8192 * KIB,
          options: [options],
          backing: { name: 'base.qcow2', format: 'qcow2' },
        });
        runQemuIo(path, ['write -q -P 7 512k 3M', 'write -q -z 4M 1M', 'write -q -P 8 6M 1M']);
        createSnapshot(path, 'monday');
        runQemuIo(path, ['write -q -P 9 1M 300k', 'write -q -P 5 7M 1M']);
        const { size } = fs.statSync(path);
        const l1Offset = Number(fs.readFileSync(path).readBigUInt64BE(40));
        for (const end of [size - 1000, Math.floor(size * 0.7) - 77, Math.floor(size / 3), l1Offset + 3, l1Offset]) {
          fs.truncateSync(path, end);
          const ranges = missing();
          expect(readByUs(path, { missing: ranges }).equals(readByQemu(path)), `cut at ${end}`).toBe(true);
          expect(ranges.count).toBeGreaterThan(0n);
          // Nobody can tell the first cut from an end that was never written.
          if (end < size - 1000) expect(catchError(() => readByUs(path)).code).toMatch(/^(PAST_END|DAMAGED)$/);
        }
      }),
  );

  test('nothing is counted in an image that is whole', () =>
    withTemporaryFolder((folder) => {
      const path = `${folder}/disk.qcow2`;
      createImage(path, { sizeBytes: SIZE });
      const ranges = missing();
      // The L1 table ends the file, in the middle of what is read of it at once.
      expect(readByUs(path, { missing: ranges }).equals(Buffer.alloc(SIZE))).toBe(true);
      runQemuIo(path, ['write -q -c -P 7 0 1M']);
      expect(readByUs(path, { missing: ranges }).equals(readByQemu(path))).toBe(true);
      expect(ranges.count).toBe(0n);
    }));

  test('encrypted clusters are decrypted zeros, as in QEMU, and compressed ones an error', () =>
    withTemporaryFolder((folder) => {
      const luks = { path: `${folder}/luks.qcow2`, passphrase: 'secret' };
      createEncryptedImage({ ...luks, options: ['encrypt.format=luks', 'encrypt.iter-time=10'], sizeBytes: SIZE });
      writeEncrypted(luks, ['write -q -P 7 0 1M']);
      fs.truncateSync(luks.path, fs.statSync(luks.path).size - 300 * KIB);
      const [truth] = encryptedTrueStates(luks, folder).map(({ rawPath }) => fs.readFileSync(rawPath));
      const keys = withPassphrase(Buffer.from('secret'));
      expect(readByUs(luks.path, { keys, missing: missing() }).equals(truth ?? Buffer.alloc(0))).toBe(true);

      const compressed = `${folder}/compressed.qcow2`;
      createImage(compressed, { sizeBytes: SIZE });
      const pattern = Buffer.concat([new Random(1).bytes(9000), Buffer.alloc(60_000, 7)]);
      fs.writeFileSync(`${folder}/pattern`, pattern);
      runQemuIo(compressed, [`write -q -c -s ${folder}/pattern 0 64k`]);
      const { size } = fs.statSync(compressed);
      fs.truncateSync(compressed, size - 600);
      // QEMU makes a cluster of it that nobody wrote, as zeros are a valid end of what is left.
      expect(
        readByQemu(compressed)
          .subarray(0, 64 * KIB)
          .equals(pattern.subarray(0, 64 * KIB)),
      ).toBe(false);
      expect(catchError(() => readByUs(compressed, { missing: missing() })).code).toBe('PAST_END');
      fs.truncateSync(compressed, size - (size % (64 * KIB)));
      const args = ['convert', '-O', 'raw', compressed, `${folder}/compressed.raw`];
      expect(tryCommand('qemu-img', args).stderr).toContain('Input/output error');
      expect(catchError(() => readByUs(compressed, { missing: missing() })).code).toBe('PAST_END');
    }));

  test('a data file that is cut reads as in QEMU', () =>
    withTemporaryFolder((folder) => {
      const path = `${folder}/disk.qcow2`;
      createImage(path, { sizeBytes: SIZE, options: [`data_file=${folder}/disk.data`] });
      runQemuIo(path, ['write -q -P 7 0 1M']);
      fs.truncateSync(`${folder}/disk.data`, 500 * KIB + 3);
      expect(readByUs(path, { missing: missing() }).equals(readByQemu(path))).toBe(true);
      // Nothing counts what is in use in it: its last cluster is no exception.
      expect(catchError(() => readByUs(path)).code).toBe('PAST_END');
    }));
});
