/** Tables that QEMU's tools do not write: what each means, or which error it is. Rules: docs/interop/qcow2.txt. */

import zlib from 'node:zlib';
import { expect, test } from 'vitest';
import { createSharedBlockMemory } from '../../src/common/shared-block-cache.ts';
import { createExtent, type Disk } from '../../src/disk/disk.ts';
import { seekData } from '../../src/disk/walk.ts';
import { openQcow2 } from '../../src/qcow2/open-qcow2.ts';
import { Qcow2Image } from '../../src/qcow2/qcow2-image.ts';
import { readSnapshotTable, Snapshots } from '../../src/qcow2/snapshots.ts';
import { BufferStorage } from '../../src/storage/buffer-storage.ts';
import { buildImage, encodeHeader, encodeSnapshotEntry, type HeaderFields, u64 } from '../fixtures/image-builder.ts';
import { catchError } from '../support/catch-error.ts';

const CLUSTER = 65536;
const L1 = 3 * CLUSTER;
const L2 = 4 * CLUSTER;
const DATA = 5 * CLUSTER;
const COPIED = 1n << 63n;
const COMPRESSED = 1n << 62n;

interface Layout {
  readonly header?: Partial<HeaderFields>;
  readonly l1?: readonly bigint[];
  readonly l2?: readonly bigint[];
  readonly parts?: readonly (readonly [number, Buffer])[];
  readonly clusterCount?: number;
  readonly lengthBytes?: number;
}

/** The current state of an image with an L1 and an L2 table, and data clusters filled with their number. */
function openDisk({
  header = {},
  l1 = [BigInt(L2)],
  l2 = [],
  parts = [],
  clusterCount = 16,
  lengthBytes,
}: Layout): Disk {
  const data = Array.from({ length: clusterCount - 5 }, (_, index): [number, Buffer] => [
    DATA + index * CLUSTER,
    Buffer.alloc(CLUSTER, index + 1),
  ]);
  const image = buildImage(clusterCount * CLUSTER, [
    ...data,
    [0, encodeHeader({ l1Size: l1.length, ...header })],
    [L1, Buffer.concat(l1.map(u64))],
    [L2, Buffer.alloc(CLUSTER)],
    [L2, Buffer.concat(l2.map(u64))],
    ...parts,
  ]);
  const file = openQcow2(new BufferStorage(image.subarray(0, lengthBytes), 'disk.qcow2'));
  const clusterMemory = createSharedBlockMemory(CLUSTER, 1 << 20);
  return new Qcow2Image(file, { backing: undefined, clusterMemory, sliceCacheBytes: 1 << 16 }).currentDisk();
}

function read(disk: Disk, offset: number, length: number): Buffer {
  const target = Buffer.alloc(length + 2, 0xee);
  disk.readAt(target, 1, offset, length);
  expect([target[0], target[length + 1]]).toEqual([0xee, 0xee]);
  return target.subarray(1, length + 1);
}

function extents(disk: Disk): string[] {
  const found: string[] = [];
  const extent = createExtent();
  for (let at = 0; at < disk.sizeBytes; at += extent.lengthBytes) {
    disk.extentAt(at, disk.sizeBytes - at, extent);
    found.push(`${extent.kind} ${at}+${extent.lengthBytes}${extent.kind === 'data' ? ` @${extent.hostOffset}` : ''}`);
  }
  return found;
}

test('neighbours in the file are one extent, whatever their COPIED bit', () => {
  const disk = openDisk({
    l2: [BigInt(DATA) | COPIED, BigInt(DATA + CLUSTER), BigInt(DATA + 3 * CLUSTER), 0n, 1n, 1n],
  });
  expect(extents(disk)).toEqual([
    `data 0+131072 @${DATA}`,
    `data 131072+65536 @${DATA + 3 * CLUSTER}`,
    'hole 196608+65536',
    'zero 262144+131072',
    'hole 393216+655360',
  ]);
  expect(read(disk, CLUSTER - 1, 3)).toEqual(Buffer.from([1, 2, 2]));
  expect(disk.allocatedBytes()).toBe(3 * CLUSTER);
});

test('reserved bits of L1 and L2 entries are ignored', () => {
  const disk = openDisk({ l1: [BigInt(L2) | 0x7f00_0000_0000_01ffn], l2: [BigInt(DATA) | 0x3f00_0000_0000_01fen] });
  expect(read(disk, 0, 1)).toEqual(Buffer.from([1]));
});

test('a zero cluster with a host cluster reads as zeros', () => {
  const disk = openDisk({ l2: [BigInt(DATA) | 1n] });
  expect(read(disk, 0, CLUSTER)).toEqual(Buffer.alloc(CLUSTER));
  expect(disk.allocatedBytes()).toBe(0);
});

test('an extent goes on across L2 tables', () => {
  const perTable = (CLUSTER / 8) * CLUSTER;
  const second = 15 * CLUSTER;
  const disk = openDisk({
    header: { size: BigInt(perTable + CLUSTER), l1Size: 2 },
    l1: [BigInt(L2), BigInt(second)],
    parts: [
      [L2 + CLUSTER - 8, u64(BigInt(DATA))],
      [second, Buffer.alloc(CLUSTER)],
      [second, u64(BigInt(DATA + CLUSTER))],
    ],
  });
  expect(extents(disk)).toEqual([`hole 0+${perTable - CLUSTER}`, `data ${perTable - CLUSTER}+131072 @${DATA}`]);
  expect(read(disk, perTable - 1, 2)).toEqual(Buffer.from([1, 2]));
});

test.each<[string, Layout, string, string]>([
  [
    'an L2 table that is not aligned',
    { l1: [BigInt(L2 + 512)] },
    'DAMAGED',
    'L2 table offset 262656 is not cluster aligned',
  ],
  [
    'a cluster that is not aligned',
    { l2: [BigInt(DATA + 512)] },
    'DAMAGED',
    'cluster offset 328192 is not cluster aligned',
  ],
  [
    'an L2 table past the end of the file',
    { l1: [1n << 40n] },
    'PAST_END',
    'an L2 table entry at offset 1099511627776',
  ],
  ['a cluster past the end of the file', { l2: [1n << 40n] }, 'PAST_END', 'a cluster at offset 1099511627776'],
  [
    'a cluster that the end of the file cuts',
    { l2: [BigInt(DATA)], lengthBytes: DATA + 100 },
    'DAMAGED',
    'a cluster at',
  ],
  ['an L1 table past the end of the file', { header: { l1TableOffset: 1n << 40n } }, 'PAST_END', 'an L1 table entry'],
  ['a zero flag in version 2', { header: { version: 2 }, l2: [1n] }, 'DAMAGED', 'zero flag'],
  ['compressed data past the end', { l2: [COMPRESSED | (1n << 40n)] }, 'PAST_END', 'a compressed cluster'],
  [
    'compressed data that is none',
    { l2: [COMPRESSED | BigInt(DATA)], parts: [[DATA, Buffer.alloc(CLUSTER, 7)]] },
    'DAMAGED',
    'cannot be decompressed',
  ],
])('%s is an error that names it, and costs only its range', (_, layout, code, message) => {
  const disk = openDisk(layout);
  const error = catchError(() => read(disk, 0, CLUSTER));
  expect(error.code).toBe(code);
  expect(error.message).toContain('disk.qcow2');
  expect(error.message).toContain(message);
  // Never a hole: a copy that follows SEEK_DATA must meet the error.
  expect(extents(disk)[0]).not.toMatch(/^(hole|zero) /);
  expect(disk.allocatedBytes()).toBeGreaterThan(0);
  if (layout.l2 !== undefined && layout.header === undefined)
    expect(read(disk, CLUSTER, CLUSTER)).toEqual(Buffer.alloc(CLUSTER));
});

test('an active L1 table that is too short for the disk is refused', () => {
  const error = catchError(() => openDisk({ header: { size: 1n << 40n } }));
  expect(error.code).toBe('DAMAGED');
  expect(error.message).toContain('l1_size is 1, but the virtual size needs 2048');
});

test('a compressed cluster is inflated from an odd offset', () => {
  const content = Buffer.alloc(CLUSTER, 'qcow2fs ');
  const stored = zlib.deflateRawSync(content, { windowBits: 12 });
  const offset = DATA + 777;
  const sectors = BigInt(Math.ceil((777 + stored.length) / 512) - Math.floor(777 / 512) - 1);
  const disk = openDisk({
    l2: [COMPRESSED | (sectors << 54n) | BigInt(offset), BigInt(DATA + CLUSTER)],
    parts: [[offset, stored]],
  });
  expect(extents(disk).slice(0, 2)).toEqual(['compressed 0+65536', `data 65536+65536 @${DATA + CLUSTER}`]);
  expect(read(disk, 0, CLUSTER)).toEqual(content);
  expect(read(disk, 4099, 13)).toEqual(content.subarray(4099, 4112));
});

function compressedEntry(stored: Buffer): bigint {
  return COMPRESSED | (BigInt(Math.ceil(stored.length / 512) - 1) << 54n) | BigInt(DATA);
}

// QEMU accepts Z_BUF_ERROR when the output is full (qcow2_zlib_decompress).
test('a deflate stream without an end mark is good if it fills the cluster', () => {
  const content = Buffer.alloc(CLUSTER, 'no end ');
  const stored = zlib.deflateRawSync(content, { windowBits: 12, finishFlush: zlib.constants.Z_SYNC_FLUSH });
  const lengthBytes = DATA + stored.length;
  const disk = openDisk({ l2: [compressedEntry(stored)], parts: [[DATA, stored]], lengthBytes });
  expect(read(disk, 0, CLUSTER)).toEqual(content);
});

test('compressed data of less than a cluster is damage', () => {
  const stored = zlib.deflateRawSync(Buffer.alloc(CLUSTER - 1, 5), { windowBits: 12 });
  const disk = openDisk({ l2: [compressedEntry(stored)], parts: [[DATA, stored]] });
  const error = catchError(() => read(disk, 0, 1));
  expect(error.code).toBe('DAMAGED');
  expect(error.message).toContain('it gives 65535 bytes, not a cluster of 65536');
});

test('the last sector of compressed data may lie past the end of the file', () => {
  const content = Buffer.alloc(CLUSTER, 'tail');
  const stored = zlib.deflateRawSync(content, { windowBits: 12 });
  const disk = openDisk({ l2: [compressedEntry(stored)], parts: [[DATA, stored]], lengthBytes: DATA + stored.length });
  expect(read(disk, 0, CLUSTER)).toEqual(content);
  const cut = openDisk({
    l2: [compressedEntry(stored)],
    parts: [[DATA, stored]],
    lengthBytes: DATA + stored.length - 50,
  });
  expect(catchError(() => read(cut, 0, CLUSTER)).code).toMatch(/^(DAMAGED|PAST_END)$/);
});

// Extended L2 entries: host offset, then the zero bits (high half) and the allocation bits (low half) of 32 subclusters.
const EXTENDED = { incompatibleFeatures: 16n };

test('a subcluster is data, zero or hole by its two bits', () => {
  const bitmap = (0b0100n << 32n) | 0b1011n;
  const disk = openDisk({ header: EXTENDED, l2: [BigInt(DATA), bitmap, 0n, 1n << 63n] });
  expect(extents(disk)).toEqual([
    `data 0+4096 @${DATA}`,
    'zero 4096+2048',
    `data 6144+2048 @${DATA + 6144}`,
    'hole 8192+120832',
    'zero 129024+2048',
    'hole 131072+917504',
  ]);
  expect(read(disk, 4095, 2050)).toEqual(Buffer.concat([Buffer.alloc(1, 1), Buffer.alloc(2048), Buffer.alloc(1, 1)]));
});

test('a run of subclusters goes on in the next cluster', () => {
  const last = 1n << 31n;
  const disk = openDisk({ header: EXTENDED, l2: [BigInt(DATA), last, BigInt(DATA + CLUSTER), 1n] });
  expect(extents(disk)[1]).toBe(`data 63488+4096 @${DATA + 63488}`);
});

test.each([
  ['both bits of a subcluster', [BigInt(DATA), (1n << 32n) | 1n]],
  ['an allocation bit without a cluster', [0n, 1n]],
])('%s make the whole entry invalid', (_, entry) => {
  const disk = openDisk({ header: EXTENDED, l2: entry });
  expect(extents(disk)[0]).toBe('damaged 0+65536');
  expect(catchError(() => read(disk, 40000, 1)).message).toContain('subcluster bitmap');
});

test('bit 0 of an extended entry is not a zero flag', () => {
  const disk = openDisk({ header: EXTENDED, l2: [BigInt(DATA) | 1n, 1n] });
  expect(read(disk, 0, 1)).toEqual(Buffer.from([1]));
});

/** 4 PiB: a walk that goes table by table through what no L1 entry maps would take days. */
test('a snapshot that claims a huge disk with a short L1 table is one hole behind it', () => {
  const l2 = [BigInt(DATA)];
  const fields = { l1TableOffset: BigInt(L1), extra: Buffer.concat([u64(0n), u64(1n << 52n)]) };
  const image = buildImage(16 * CLUSTER, [
    [0, encodeHeader({ clusterBits: 9, snapshotCount: 1, snapshotsOffset: BigInt(10 * CLUSTER) })],
    [L1, u64(BigInt(L2))],
    [L2, Buffer.concat(l2.map(u64))],
    [10 * CLUSTER, encodeSnapshotEntry(fields)],
  ]);
  const file = openQcow2(new BufferStorage(image));
  const snapshot = new Snapshots(readSnapshotTable(file).memory).at(0);
  if (snapshot === undefined) throw new Error('no snapshot');
  const clusterMemory = createSharedBlockMemory(512, 1 << 16);
  const disk = new Qcow2Image(file, { backing: undefined, clusterMemory, sliceCacheBytes: 1 << 16 }).snapshotDisk(
    snapshot,
  );
  expect(disk.sizeBytes).toBe(2 ** 52);
  expect(disk.allocatedBytes()).toBe(512);
  expect(extents(disk)).toEqual([`data 0+512 @${DATA}`, `hole 512+${2 ** 52 - 512}`]);
  expect(seekData(disk, 512)).toBeUndefined();
});

// 2^22 L1 entries that lead to one L2 table of zeros: no caller can wait until all of it was looked at.
test('a walk over a crafted image comes to an end', () => {
  const l1 = Buffer.alloc(8 << 20);
  for (let at = 0; at < l1.length; at += 8) l1.writeBigUInt64BE(BigInt(L2), at);
  const zeros = Buffer.concat(
    Array.from({ length: CLUSTER / 16 }, () => Buffer.concat([u64(0n), u64(0x55555555n << 32n)])),
  );
  const fields = { ...EXTENDED, size: 1n << 48n, l1Size: l1.length / 8, l1TableOffset: BigInt(16 * CLUSTER) };
  const image = buildImage(16 * CLUSTER + l1.length, [
    [0, encodeHeader(fields)],
    [L2, zeros],
    [16 * CLUSTER, l1],
  ]);
  const clusterMemory = createSharedBlockMemory(CLUSTER, 1 << 20);
  const file = openQcow2(new BufferStorage(image));
  const disk = new Qcow2Image(file, { backing: undefined, clusterMemory, sliceCacheBytes: 1 << 16 }).currentDisk();
  const data = seekData(disk, 0) ?? disk.sizeBytes;
  expect(data).toBeGreaterThan(0);
  expect(disk.allocatedBytes()).toBeLessThanOrEqual(disk.sizeBytes);
});
