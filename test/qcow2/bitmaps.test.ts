/** The list of persistent bitmaps, with directories that QEMU does not write. */

import { expect, test } from 'vitest';
import { listBitmaps } from '../../src/qcow2/bitmaps.ts';
import { openQcow2 } from '../../src/qcow2/open-qcow2.ts';
import { BufferStorage } from '../../src/storage/buffer-storage.ts';
import { buildImage, encodeHeader } from '../fixtures/image-builder.ts';

const CLUSTER = 65536;
const DIRECTORY = 4 * CLUSTER;

/** Lists `count` bitmaps with names of 1000 bytes. */
function listOf(count: number) {
  const entry = Buffer.alloc(24 + 1000, 'a');
  entry.writeBigUInt64BE(BigInt(CLUSTER), 0);
  entry.writeUInt32BE(1, 8);
  entry.writeUInt32BE(0, 12);
  // Type 1, granularity 2^16.
  entry.set([1, 16], 16);
  entry.writeUInt16BE(1000, 18);
  entry.writeUInt32BE(0, 20);
  const directory = Buffer.alloc(entry.length * count, entry);
  const extension = Buffer.alloc(32);
  extension.writeUInt32BE(0x23852875, 0);
  extension.writeUInt32BE(24, 4);
  extension.writeUInt32BE(count, 8);
  extension.writeBigUInt64BE(BigInt(directory.length), 16);
  extension.writeBigUInt64BE(BigInt(DIRECTORY), 24);
  const image = buildImage(DIRECTORY + directory.length, [
    [0, encodeHeader()],
    // The autoclear bit of bitmaps.
    [95, Buffer.from([1])],
    [112, extension],
    [DIRECTORY, directory],
  ]);
  return listBitmaps(openQcow2(new BufferStorage(image)));
}

test('names may have 3 MiB in all', () => {
  expect(listOf(3000).bitmaps).toHaveLength(3000);
  expect(listOf(3000).problems).toEqual([]);
  expect(listOf(4000)).toMatchObject({
    bitmaps: [],
    problems: ['the persistent bitmaps are not shown: all names together exceed 3145728 bytes'],
  });
});
