/** Tables that are far larger than the file which they are in, as they lie over one another or in holes. */

import { expect, test } from 'vitest';
import { type CheckResult, checkQcow2 } from '../../../src/qcow2/check/check-qcow2.ts';
import { openQcow2 } from '../../../src/qcow2/open-qcow2.ts';
import { buildImage, encodeHeader, encodeSnapshotEntry, type HeaderFields, u64 } from '../../fixtures/image-builder.ts';
import { CountingStorage, SparseStorage } from '../../support/counting-storage.ts';

const CLUSTER = 65536;
const MIB = 1024 * 1024;

type Parts = Parameters<typeof buildImage>[1];

function check(clusterCount: number, fields: Partial<HeaderFields>, parts: Parts) {
  const storage = new CountingStorage(buildImage(clusterCount * CLUSTER, [[0, encodeHeader(fields)], ...parts]));
  const result = checkQcow2(openQcow2(storage));
  return { result, bytesRead: storage.bytesRead };
}

function messagesAt(result: CheckResult, offset: number): string[] {
  return result.firstProblems.filter((problem) => problem.offset === offset).map(({ message }) => message);
}

test('L1 tables over one another are read once and counted for each', () => {
  // Tables of 56 KiB and less, all from cluster 3 on; one L2 table, which all of them have.
  const entries = Array.from({ length: 4000 }, (_, index) =>
    encodeSnapshotEntry({ name: '', extra: Buffer.alloc(16), l1Size: 7000 - index }),
  );
  const { result, bytesRead } = check(16, { snapshotCount: 4000, snapshotsOffset: 6n << 16n }, [
    [3 * CLUSTER, u64(4n << 16n)],
    [4 * CLUSTER, u64(5n << 16n)],
    [6 * CLUSTER, Buffer.concat(entries)],
  ]);
  expect(messagesAt(result, 4 * CLUSTER)).toEqual(['the refcount is 0, but there are 4001 references']);
  expect(messagesAt(result, 5 * CLUSTER)).toEqual(['the refcount is 0, but there are 4001 references']);
  expect(result.uncheckedCount).toBe(0);
  expect(bytesRead).toBeLessThan(MIB);
});

test('an L1 table that ends inside another one counts up to there', () => {
  const entries = [3, 1].map((l1Size) => encodeSnapshotEntry({ name: '', extra: Buffer.alloc(16), l1Size }));
  const { result } = check(16, { snapshotCount: 2, snapshotsOffset: 6n << 16n }, [
    [3 * CLUSTER, Buffer.concat([u64(4n << 16n), u64(5n << 16n)])],
    [6 * CLUSTER, Buffer.concat(entries)],
  ]);
  expect(messagesAt(result, 4 * CLUSTER)).toEqual(['the refcount is 0, but there are 3 references']);
  expect(messagesAt(result, 5 * CLUSTER)).toEqual(['the refcount is 0, but there are 1 references']);
});

test('an L2 table that is not cluster aligned is walked once, whatever the number of entries that lead to it', () => {
  const l1 = Buffer.concat(Array.from({ length: 8000 }, () => u64((4n << 16n) + 512n)));
  const { result, bytesRead } = check(16, { l1Size: 8000 }, [
    [3 * CLUSTER, l1],
    [4 * CLUSTER + 512, u64(6n << 16n)],
  ]);
  expect(result.countsByKind.unaligned).toBe(8000);
  expect(messagesAt(result, 6 * CLUSTER)).toEqual(['the refcount is 0, but there are 8000 references']);
  expect(bytesRead).toBeLessThan(MIB);
});

test('of L2 tables that are not cluster aligned, some are walked and the rest is told', () => {
  const offsets = Array.from({ length: 8000 }, (_, index) => (64n << 16n) + 512n * BigInt(index));
  const l1 = Buffer.concat(offsets.filter((offset) => offset % 65536n !== 0n).map(u64));
  const { result, bytesRead } = check(256, { l1Size: l1.length / 8 }, [[3 * CLUSTER, l1]]);
  expect(result.uncheckedCount).toBeGreaterThan(3000);
  expect(bytesRead).toBeLessThan(300 * MIB);
});

test('bitmaps that share a table are read once and counted for each', () => {
  const entry = Buffer.alloc(32);
  entry.writeBigUInt64BE(8n << 16n, 0);
  entry.writeUInt32BE(8000, 8);
  // In use: any length of the table is allowed.
  entry.writeUInt32BE(1, 12);
  // Type 1, granularity 2^16, a name of one byte.
  entry.set([1, 16, 0, 1], 16);
  const directory = Buffer.concat(Array.from({ length: 2000 }, () => entry));
  const extension = Buffer.alloc(40);
  extension.writeUInt32BE(0x23852875, 0);
  extension.writeUInt32BE(24, 4);
  extension.writeUInt32BE(2000, 8);
  extension.writeBigUInt64BE(BigInt(directory.length), 16);
  extension.writeBigUInt64BE(6n << 16n, 24);
  const autoclear = Buffer.alloc(8);
  autoclear.writeBigUInt64BE(1n);
  const { result, bytesRead } = check(16, {}, [
    [88, autoclear],
    [112, extension],
    [6 * CLUSTER, directory],
    [8 * CLUSTER, u64(9n << 16n)],
  ]);
  expect(messagesAt(result, 8 * CLUSTER)).toEqual(['the refcount is 0, but there are 2000 references']);
  expect(messagesAt(result, 9 * CLUSTER)).toEqual(['the refcount is 0, but there are 2000 references']);
  expect(bytesRead).toBeLessThan(MIB);
});

test('tables in holes are read as far as the bytes that a file stores are worth it', () => {
  // 8,192 L2 tables of 64 KiB: half a GiB of zeros.
  const l1 = Buffer.concat(Array.from({ length: 8192 }, (_, index) => u64(BigInt(16 + index) << 16n)));
  const header = encodeHeader({ l1Size: 8192 });
  const bytes = buildImage(4 * CLUSTER, [
    [0, header],
    [3 * CLUSTER, l1],
  ]);
  const checkStored = (storedBytes: number) => {
    const storage = new SparseStorage(bytes, 2 ** 30);
    const result = checkQcow2(openQcow2(storage), { storedBytes });
    return { uncheckedCount: result.uncheckedCount, bytesRead: storage.bytesRead };
  };
  const sparse = checkStored(bytes.length);
  expect(sparse.uncheckedCount).toBe(2 ** 30 / CLUSTER);
  expect(sparse.bytesRead).toBeLessThan(160 * MIB);
  expect(checkStored(2 ** 29)).toMatchObject({ uncheckedCount: 0 });
});
