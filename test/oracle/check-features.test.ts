/** `check` beside `qemu-img check`: features that have clusters of their own, or none. */

import fs from 'node:fs';
import { describe, expect, test } from 'vitest';
import { runCommand } from '../support/run-command.ts';
import { runMeasuring } from '../support/run-measuring.mjs';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { DamagedImage } from './damaged-image.ts';
import { checkHere, expectSameCheck } from './expect-same-check.ts';
import { createImage, runQemuIo } from './qemu.ts';

const MIB = 1024 * 1024;

test.each([1, 41, 512, 513])('a table behind the end of a file with %i bytes in its last cluster', (bytes) =>
  withTemporaryFolder((folder) => {
    const path = `${folder}/disk.qcow2`;
    createImage(path, { sizeBytes: MIB, options: ['cluster_size=4k'] });
    runQemuIo(path, ['write -q 0 64k']);
    const { size } = fs.statSync(path);
    fs.appendFileSync(path, Buffer.alloc(bytes));
    const image = new DamagedImage(path);
    image.writeU32(60, 1);
    image.writeU64(64, BigInt(Math.ceil(size / 4096) * 4096 + 4096));
    image.close();
    expect(expectSameCheck(path, `${bytes} bytes`)).toBe(2);
  }),
);

describe('persistent bitmaps', () => {
  /** With a bitmap that has data, one that has none, and a disabled one. */
  function createWithBitmaps(folder: string): string {
    const image = `${folder}/bitmaps.qcow2`;
    createImage(image, { sizeBytes: 64 * MIB, options: ['cluster_size=4k'] });
    for (const name of ['one', 'two']) runCommand('qemu-img', ['bitmap', '--add', '-g', '512', image, name]);
    runQemuIo(image, ['write -q 1M 64k', 'write -q 60M 512', 'write -q 30M 8M']);
    runCommand('qemu-img', ['bitmap', '--add', '--disable', image, 'three']);
    return image;
  }

  /** Position of the data of the header extension. */
  const extensionAt = (image: DamagedImage) => image.read(0, 4096).indexOf(Buffer.from('23852875', 'hex')) + 8;

  test('are counted as QEMU counts them', () =>
    withTemporaryFolder((folder) => {
      expect(expectSameCheck(createWithBitmaps(folder), 'bitmaps')).toBe(0);
    }));

  test.each<[string, number, (image: DamagedImage) => void]>([
    ['that a writer did not keep are leaks', 3, (image) => image.writeU64(88, 0n)],
    ['with a table entry that is invalid', 2, (image) => image.writeU64(tableOf(image), 3n)],
    ['with a table entry that is not aligned', 2, (image) => image.writeU64(tableOf(image), 512n)],
    ['with data past the end', 2, (image) => image.writeU64(tableOf(image), 1n << 40n)],
    ['with a table that is too large', 1, (image) => image.writeU32(directoryOf(image) + 8, 0x1000_0000)],
    ['with a table that is not aligned', 1, (image) => image.writeU64(directoryOf(image), 512n)],
    ['with a table without entries', 1, (image) => image.writeU32(directoryOf(image) + 8, 0)],
    ['with unknown flags', 1, (image) => image.writeU32(directoryOf(image) + 12, 6)],
    ['of an unknown type', 1, (image) => image.writeU32(directoryOf(image) + 16, 0x0209_0003)],
    ['with a granularity that is too small', 1, (image) => image.writeU32(directoryOf(image) + 16, 0x0108_0003)],
    ['with a granularity that is too large', 1, (image) => image.writeU32(directoryOf(image) + 16, 0x0120_0003)],
    ['without a name', 1, (image) => image.writeU32(directoryOf(image) + 16, 0x0109_0000)],
    ['with extra data', 1, (image) => image.writeU32(directoryOf(image) + 20, 8)],
    ['with more of them than the directory holds', 1, (image) => image.writeU32(extensionAt(image), 9)],
    ['with fewer of them than the directory holds', 1, (image) => image.writeU32(extensionAt(image), 1)],
    ['with a directory that goes on behind them', 1, (image) => image.writeU64(extensionAt(image) + 8, 104n)],
    ['of which there is none', 1, (image) => image.writeU32(extensionAt(image), 0)],
    ['with a reserved field', 1, (image) => image.writeU32(extensionAt(image) + 4, 1)],
    ['with too many clusters', 1, (image) => image.writeU32(directoryOf(image) + 8, 0x2_0001)],
    ['with a table that is longer than the disk needs', 1, (image) => image.writeU32(directoryOf(image) + 8, 5)],
    ['with a table that is too small for the disk', 1, (image) => image.writeU32(directoryOf(image) + 8, 3)],
  ])('%s', (title, status, damage) =>
    withTemporaryFolder((folder) => {
      const path = createWithBitmaps(folder);
      const image = new DamagedImage(path);
      damage(image);
      image.close();
      expectSameCheck(path, title);
      expect(checkHere(path).status).toBe(status);
    }),
  );

  const directoryOf = (image: DamagedImage) => Number(image.u64(extensionAt(image) + 16));
  const tableOf = (image: DamagedImage) => Number(image.u64(directoryOf(image)));
});

describe('encryption', () => {
  test.each([
    ['luks', 'luks,encrypt.iter-time=10'],
    ['aes', 'aes'],
  ])('%s needs no key', (format, option) =>
    withTemporaryFolder((folder) => {
      const path = `${folder}/secret.qcow2`;
      const secret = ['--object', 'secret,id=s,data=x'];
      const options = `encrypt.format=${option},encrypt.key-secret=s`;
      runMeasuring('qemu-img', ['create', '-q', ...secret, '-f', 'qcow2', '-o', options, path, '8M']);
      const opened = `driver=qcow2,file.filename=${path},encrypt.key-secret=s`;
      runCommand('qemu-io', [...secret, '-c', 'write -q 1M 2M', '--image-opts', opened]);
      const imageOptions = [...secret, '--image-opts', opened];
      expect(expectSameCheck(path, format, {}, imageOptions)).toBe(0);
      const image = new DamagedImage(path);
      image.setRefcount(Number(image.u64(40)) / image.clusterBytes, 9n);
      image.close();
      expect(expectSameCheck(path, `${format}, with a leak`, {}, imageOptions)).toBe(3);
    }),
  );
});

/** The feature name table becomes another LUKS extension before that of the image. */
test.each([
  ['the same', 0],
  ['a different', 1],
])('two LUKS extensions, %s one first', (first, status) =>
  withTemporaryFolder((folder) => {
    const path = `${folder}/secret.qcow2`;
    const secret = ['--object', 'secret,id=s,data=x'];
    const options = 'encrypt.format=luks,encrypt.iter-time=10,encrypt.key-secret=s';
    runMeasuring('qemu-img', ['create', '-q', ...secret, '-f', 'qcow2', '-o', options, path, '1M']);
    const image = new DamagedImage(path);
    const second = image.read(0, 4096).indexOf(Buffer.from('0537be77', 'hex'));
    const extensions = Buffer.concat([image.read(second, 24), image.read(second, 24), Buffer.alloc(8)]);
    if (first === 'a different') extensions.writeBigUInt64BE(0n, 8);
    image.write(112, extensions);
    image.close();
    const opened = [...secret, '--image-opts', `driver=qcow2,file.filename=${path},encrypt.key-secret=s`];
    expect(expectSameCheck(path, first, {}, opened)).toBe(status);
    expect(checkHere(path).check?.firstProblems).toMatchObject(status === 0 ? [] : [{ kind: 'header', offset: 136 }]);
  }),
);

describe('a header that QEMU does not open', () => {
  /** QEMU writes none to an image with clusters of this size. */
  const FIRST_EXTENSION = 112;

  test.each<[string, number, string, number, (image: DamagedImage) => void]>([
    ['LUKS without its extension', 2, 'header', 32, (image) => image.writeU32(32, 2)],
    ['an unknown encryption', 1, 'unchecked', 32, (image) => image.writeU32(32, 9)],
    ['an extension that is too large', 2, 'header', 112, (image) => image.writeU32(FIRST_EXTENSION + 4, 1 << 30)],
    ['a format that is too long', 2, 'header', 112, (image) => image.writeU64(FIRST_EXTENSION, 0xe2792aca_00000010n)],
    [
      'a LUKS extension without LUKS',
      2,
      'header',
      112,
      (image) => image.writeU64(FIRST_EXTENSION, 0x0537be77_00000010n),
    ],
    [
      'a LUKS extension of another size',
      2,
      'header',
      112,
      (image) => {
        image.writeU32(32, 2);
        image.writeU64(FIRST_EXTENSION, 0x0537be77_00000018n);
      },
    ],
  ])('%s: exit %i, of the kind %s, at offset %i', (title, status, kind, offset, damage) =>
    withTemporaryFolder((folder) => {
      const path = `${folder}/disk.qcow2`;
      createImage(path, { sizeBytes: MIB, options: ['cluster_size=4k'] });
      const image = new DamagedImage(path);
      damage(image);
      image.close();
      expect(expectSameCheck(path, title)).toBe(1);
      const verdict = checkHere(path);
      expect(verdict.status).toBe(status);
      const { firstProblems, isClean } = verdict.check ?? { firstProblems: [] };
      expect([isClean, firstProblems]).toMatchObject([
        false,
        [{ kind, offset, message: expect.stringMatching(/header/) }],
      ]);
    }),
  );
});

describe('an external data file', () => {
  /** Raw data files have clusters at offset zero, too. */
  function createWithDataFile(folder: string, isRaw: boolean): string {
    const path = `${folder}/outside.qcow2`;
    const options = [`data_file=${folder}/outside.raw`, `data_file_raw=${isRaw ? 'on' : 'off'}`];
    createImage(path, { sizeBytes: 8 * MIB, options });
    runQemuIo(path, ['write -q 0 1M', 'write -q 5M 64k', 'write -q -z 6M 64k']);
    return path;
  }

  test.each([true, false])('is not counted (raw: %s), and need not be there', (isRaw) =>
    withTemporaryFolder((folder) => {
      const path = createWithDataFile(folder, isRaw);
      expect(expectSameCheck(path, 'data file')).toBe(0);
      fs.rmSync(`${folder}/outside.raw`);
      expect(checkHere(path).status).toBe(0);
    }),
  );

  test.each<[string, (image: DamagedImage) => void]>([
    ['a refcount that is too high', (image) => image.setRefcount(3, 2n)],
    ['a flag "refcount is one"', (image) => flipFirst(image, 63n)],
    ['a compressed cluster', (image) => flipFirst(image, 62n)],
  ])('with %s', (title, damage) =>
    withTemporaryFolder((folder) => {
      const path = createWithDataFile(folder, false);
      const image = new DamagedImage(path);
      damage(image);
      image.close();
      expect(expectSameCheck(path, title)).not.toBe(0);
    }),
  );

  /** Of an entry that has an offset. */
  function flipFirst(image: DamagedImage, bit: bigint): void {
    const [entry] = image.dataEntries;
    if (entry === undefined) throw new Error('nothing is mapped');
    image.writeU64(entry.position, entry.value ^ (1n << bit));
  }
});

describe('what QEMU does not see', () => {
  function createSmall(folder: string, options: readonly string[] = []): string {
    const path = `${folder}/small.qcow2`;
    createImage(path, { sizeBytes: 8 * MIB, options });
    runQemuIo(path, ['write -q 1M 1M', 'write -q -z 4M 64k']);
    return path;
  }

  test('a cluster with two uses, and a refcount that agrees', () =>
    withTemporaryFolder((folder) => {
      const path = createSmall(folder);
      const image = new DamagedImage(path);
      const l1 = Number(image.u64(40));
      const [entry] = image.dataEntries;
      if (entry === undefined) throw new Error('nothing is mapped');
      image.setRefcount(l1 / image.clusterBytes, 2n);
      image.writeU64(entry.position, BigInt(l1));
      image.close();
      expect(expectSameCheck(path, 'overlap')).toBe(3);
      const { status, check } = checkHere(path);
      expect(status).toBe(2);
      expect(check?.firstProblems).toContainEqual({
        kind: 'overlap',
        offset: l1,
        message: 'the cluster is used for an L1 table and guest data',
      });
    }));

  test('the zero flag in version 2', () =>
    withTemporaryFolder((folder) => {
      const path = createSmall(folder, ['compat=0.10']);
      const image = new DamagedImage(path);
      const [entry] = image.dataEntries;
      if (entry === undefined) throw new Error('nothing is mapped');
      image.writeU64(entry.position, entry.value | 1n);
      image.close();
      expect(expectSameCheck(path, 'zero flag')).toBe(0);
      expect(checkHere(path)).toMatchObject({ status: 2, check: { countsByKind: { 'zero-flag': 1 } } });
    }));

  test('an L1 table that is too short: the rest is checked', () =>
    withTemporaryFolder((folder) => {
      const path = createSmall(folder);
      const image = new DamagedImage(path);
      image.writeU64(24, 1n << 32n);
      image.close();
      expect(expectSameCheck(path, 'short L1')).toBe(1);
      expect(checkHere(path)).toMatchObject({ status: 2, check: { corruptionCount: 1, leakedClusterCount: 0 } });
    }));
});
