/** Images that were cut, read with zeros for what is missing: as QEMU reads them. */

import fs from 'node:fs';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { MissingRanges } from '../../src/storage/missing-ranges.ts';
import { catchError } from '../support/catch-error.ts';
import { tryCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { withPassphrase } from '../support/with-passphrase.ts';
import { createEncryptedImage, encryptedTrueStates, writeEncrypted } from './encrypted.ts';
import { createImage, createSnapshot, runQemuIo } from './qemu.ts';
import { Random } from './random.ts';
import { lastHostOffset, readByQemu, readByUs } from './read-state.ts';

const KIB = 1024;
const SIZE = 1024 * KIB + 512;

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

    // Which sector that is cannot be told exactly, so neither can how it is decrypted.
    const file = fs.readFileSync(luks.path);
    const l2Offset = Number(file.readBigUInt64BE(Number(file.readBigUInt64BE(40))) & 0xff_ffff_ffff_fe00n);
    file.writeBigUInt64BE(1n << 55n, l2Offset);
    fs.writeFileSync(luks.path, file);
    expect(catchError(() => readByUs(luks.path, { keys, missing: missing() })).code).toBe('PAST_END');

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
