import zlib from 'node:zlib';
import { expect, test } from 'vitest';
import { createSharedBlockMemory } from '../../src/common/shared-block-cache.ts';
import { openQcow2 } from '../../src/qcow2/open-qcow2.ts';
import { Qcow2Image } from '../../src/qcow2/qcow2-image.ts';
import { BufferStorage } from '../../src/storage/buffer-storage.ts';
import { buildImage, encodeHeader, u64 } from '../fixtures/image-builder.ts';

const CLUSTER = 65536;
const COMPRESSED = 1n << 62n;

/** One compressed cluster full of `value`, at the same place in each image. */
function imageOf(value: number) {
  const bytes = buildImage(8 * CLUSTER, [
    [0, encodeHeader({})],
    [3 * CLUSTER, u64(4n << 16n)],
    [4 * CLUSTER, u64(COMPRESSED | (5n << 16n))],
    [5 * CLUSTER, zlib.deflateRawSync(Buffer.alloc(CLUSTER, value))],
  ]);
  return openQcow2(new BufferStorage(bytes));
}

test('layers that share the memory for clusters do not take those of one another', () => {
  const clusterMemory = createSharedBlockMemory(CLUSTER, 1 << 20);
  const disks = [7, 8, 9].map((value, depth) => {
    const resources = { backing: undefined, depth, clusterMemory, sliceCacheBytes: 1 << 16 };
    return new Qcow2Image(imageOf(value), resources).currentDisk();
  });
  const byte = Buffer.alloc(1);
  for (let round = 0; round < 2; round++) {
    const values = disks.map((disk) => {
      disk.readAt(byte, 0, 100, 1);
      return byte[0];
    });
    expect(values).toEqual([7, 8, 9]);
  }
});
