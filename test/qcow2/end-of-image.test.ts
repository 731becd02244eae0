/** What the refcounts say about the end of a file, with tables that QEMU does not write. */

import { expect, test } from 'vitest';
import { createSharedBlockMemory } from '../../src/common/shared-block-cache.ts';
import { findClusterBehindEnd } from '../../src/qcow2/end-of-image.ts';
import { openQcow2 } from '../../src/qcow2/open-qcow2.ts';
import { Qcow2Image } from '../../src/qcow2/qcow2-image.ts';
import { readSnapshotTable, Snapshots } from '../../src/qcow2/snapshots.ts';
import { BufferStorage } from '../../src/storage/buffer-storage.ts';
import { buildImage, encodeHeader, encodeSnapshotEntry, u64 } from '../fixtures/image-builder.ts';
import { catchError } from '../support/catch-error.ts';
import { CountingStorage } from '../support/counting-storage.ts';

const CLUSTER = 65536;
const TABLE = CLUSTER;
const BLOCK = 2 * CLUSTER;
/** Clusters that a block of 16-bit refcounts counts. */
const PER_BLOCK = CLUSTER / 2;

/** As a file or device is that became shorter after it was opened. */
class ShrunkStorage extends BufferStorage {
  readonly endBytes: number;

  constructor(bytes: Buffer, endBytes: number) {
    super(bytes);
    this.endBytes = endBytes;
  }

  override readUpTo(target: Buffer, targetOffset: number, length: number, position: number): number {
    const count = super.readUpTo(target, targetOffset, length, position);
    return Math.max(0, Math.min(count, this.endBytes - position));
  }
}

/** A file that ends 100 bytes into its cluster 3. */
function storageOf(table: Buffer, refcounts: readonly number[]): CountingStorage {
  const block = Buffer.alloc(CLUSTER);
  for (const cluster of refcounts) block.writeUInt16BE(1, cluster * 2);
  const image = buildImage(3 * CLUSTER + 100, [
    [0, encodeHeader()],
    [TABLE, table],
    [BLOCK, block],
  ]);
  return new CountingStorage(image);
}

const behindEnd = (storage: CountingStorage) => findClusterBehindEnd(openQcow2(storage));

test.each<[string, Buffer, readonly number[], number | undefined]>([
  ['nothing', u64(BigInt(BLOCK)), [0, 1, 2, 3], undefined],
  ['the very next cluster', u64(BigInt(BLOCK)), [3, 4], 4 * CLUSTER],
  ['the last one of its block', u64(BigInt(BLOCK)), [3, PER_BLOCK - 1], (PER_BLOCK - 1) * CLUSTER],
  [
    'one of a later block',
    Buffer.concat([u64(BigInt(BLOCK)), Buffer.alloc(8 * 50), u64(BigInt(BLOCK))]),
    [3],
    (51 * PER_BLOCK + 3) * CLUSTER,
  ],
])('%s behind the end is in use', (_, table, refcounts, expected) => {
  expect(behindEnd(storageOf(table, refcounts))).toBe(expected);
});

test('a table that names blocks without end is given up, and does not take long', () => {
  const entries = Buffer.concat(Array.from({ length: CLUSTER / 8 }, () => u64(BigInt(BLOCK))));
  const image = buildImage(8 * CLUSTER + 100, [
    [0, encodeHeader({ refcountTableClusters: 1, refcountTableOffset: BigInt(4 * CLUSTER) })],
    [4 * CLUSTER, entries],
    // The block itself is empty: no entry ever ends the search.
    [BLOCK, Buffer.alloc(CLUSTER)],
  ]);
  const storage = new CountingStorage(image);
  const error = catchError(() => behindEnd(storage));
  expect(error.code).toBe('DAMAGED');
  expect(error.message).toContain('bytes of refcounts are about clusters behind its end');
  expect(storage.bytesRead).toBeLessThan(65 << 20);
});

test.each([
  ['is zeros in the VM state of a snapshot', [6], undefined],
  ['is an error in the VM state of a snapshot if the image was cut', [6, 9], 'the cluster at offset 589824'],
])('the tail %s', (_, refcounts, problem) => {
  const [l1, l2, snapshots, data] = [3, 4, 5, 6].map((cluster) => cluster * CLUSTER) as [
    number,
    number,
    number,
    number,
  ];
  const block = Buffer.alloc(CLUSTER);
  for (const cluster of refcounts) block.writeUInt16BE(1, cluster * 2);
  const image = buildImage(data + 100, [
    [0, encodeHeader({ snapshotCount: 1, snapshotsOffset: BigInt(snapshots) })],
    [TABLE, u64(BigInt(BLOCK))],
    [BLOCK, block],
    // The second L2 table: the first one is that of the disk.
    [l1 + 8, u64(BigInt(l2))],
    [l2, u64(BigInt(data))],
    [snapshots, encodeSnapshotEntry({ l1Size: 2, vmStateSize: 300 })],
    [data, Buffer.alloc(100, 7)],
  ]);
  const file = openQcow2(new BufferStorage(image));
  const clusterMemory = createSharedBlockMemory(CLUSTER, 1 << 20);
  const qcow2 = new Qcow2Image(file, { backing: undefined, clusterMemory, sliceCacheBytes: 1 << 16 });
  const snapshot = new Snapshots(readSnapshotTable(file).memory).at(0);
  if (snapshot === undefined) throw new Error('no snapshot');
  const target = Buffer.alloc(300, 0xee);
  const read = () => qcow2.vmStateDisk(snapshot).readAt(target, 0, 0, 300);
  if (problem === undefined) {
    read();
    expect(target).toEqual(Buffer.concat([Buffer.alloc(100, 7), Buffer.alloc(200)]));
  } else {
    expect(catchError(read).message).toContain(problem);
  }
});

test('a file that was cut after it was opened has no tail of zeros', () => {
  const [l1, l2, data] = [3, 4, 5].map((cluster) => cluster * CLUSTER) as [number, number, number];
  const block = Buffer.alloc(CLUSTER);
  for (const cluster of [0, 1, 2, 3, 4, 5, 6]) block.writeUInt16BE(1, cluster * 2);
  const image = buildImage(data + 2 * CLUSTER, [
    [0, encodeHeader()],
    [TABLE, u64(BigInt(BLOCK))],
    [BLOCK, block],
    [l1, u64(BigInt(l2))],
    [l2, Buffer.concat([u64(BigInt(data)), u64(BigInt(data + CLUSTER))])],
    [data, Buffer.alloc(2 * CLUSTER, 7)],
  ]);
  const file = openQcow2(new ShrunkStorage(image, data + 100));
  const clusterMemory = createSharedBlockMemory(CLUSTER, 1 << 20);
  const disk = new Qcow2Image(file, { backing: undefined, clusterMemory, sliceCacheBytes: 1 << 16 }).currentDisk();
  const target = Buffer.alloc(512);
  for (const offset of [0, 4096, CLUSTER]) {
    const error = catchError(() => disk.readAt(target, 0, offset, 512));
    expect(error.code).toBe('PAST_END');
    expect(error.message).toContain('it was cut meanwhile');
  }
  disk.readAt(target, 0, 0, 100);
  expect(target.subarray(0, 100)).toEqual(Buffer.alloc(100, 7));
});
