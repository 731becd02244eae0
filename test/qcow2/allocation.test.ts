/** st_blocks of states whose tables are too much to be walked. */

import { expect, test } from 'vitest';
import { createSharedBlockMemory } from '../../src/common/shared-block-cache.ts';
import { createExtent, type Disk } from '../../src/disk/disk.ts';
import { MAX_EXTENT_LOOKUPS } from '../../src/disk/walk.ts';
import { openQcow2 } from '../../src/qcow2/open-qcow2.ts';
import { Qcow2Image } from '../../src/qcow2/qcow2-image.ts';
import { buildImage, encodeHeader, u64 } from '../fixtures/image-builder.ts';
import { CountingStorage } from '../support/counting-storage.ts';

const CLUSTER = 65536;
const ENTRIES_PER_TABLE = CLUSTER / 8;

/** All entries of the L1 table lead to one L2 table with the given entries, over and over. */
function openDisk(l1Size: number, pattern: readonly bigint[], backing?: Disk) {
  const l2 = Buffer.concat(
    Array.from({ length: ENTRIES_PER_TABLE }, (_, index) => u64(pattern[index % pattern.length] ?? 0n)),
  );
  const bytes = buildImage(8 * CLUSTER, [
    [0, encodeHeader({ l1Size, size: BigInt(l1Size) << 29n })],
    [3 * CLUSTER, Buffer.concat(Array.from({ length: l1Size }, () => u64(5n << 16n)))],
    [5 * CLUSTER, l2],
  ]);
  const storage = new CountingStorage(bytes);
  const resources = { backing, clusterMemory: createSharedBlockMemory(CLUSTER, 1), sliceCacheBytes: 1 << 16 };
  return { disk: new Qcow2Image(openQcow2(storage), resources).currentDisk(), storage };
}

test('extents are counted exactly while they are few', () => {
  const { disk } = openDisk(2, [6n << 16n, 0n]);
  expect(disk.allocatedBytes()).toBe(disk.sizeBytes / 2);
});

test('of too many extents, the size of the file is the bound', () => {
  const l1Size = Math.ceil(MAX_EXTENT_LOOKUPS / ENTRIES_PER_TABLE) + 1;
  // One is damaged: such an extent counts as any other.
  const { disk, storage } = openDisk(l1Size, [6n << 16n, 513n << 9n]);
  expect(disk.allocatedBytes()).toBe(storage.sizeBytes);
});

test('what is unallocated is looked up once, however many extents the backing disk has in it', () => {
  const below = openDisk(1, [6n << 16n, 0n]).disk;
  const { disk, storage } = openDisk(1, [0n], below);
  const extent = createExtent();
  disk.extentAt(0, disk.sizeBytes, extent);
  const { bytesRead } = storage;
  for (let offset = 0; offset < disk.sizeBytes; offset += extent.lengthBytes) {
    disk.extentAt(offset, disk.sizeBytes - offset, extent);
    expect(extent.lengthBytes).toBe(CLUSTER);
  }
  expect(storage.bytesRead).toBe(bytesRead);
  expect(disk.allocatedBytes()).toBe(disk.sizeBytes / 2);
});
