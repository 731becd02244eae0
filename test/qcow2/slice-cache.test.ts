import { expect, test } from 'vitest';
import { SliceCache } from '../../src/qcow2/slice-cache.ts';
import { BufferStorage } from '../../src/storage/buffer-storage.ts';
import type { Storage } from '../../src/storage/storage.ts';

/** 64 slices of 4 KiB; each 8-byte entry holds its own offset. */
const FILE = Buffer.alloc(64 * 4096);
for (let offset = 0; offset < FILE.length; offset += 8) FILE.writeBigUInt64BE(BigInt(offset), offset);

function countReads(storage: Storage): Storage & { count: number } {
  return {
    name: storage.name,
    sizeBytes: storage.sizeBytes,
    count: 0,
    readUpTo(...args) {
      this.count += 1;
      return storage.readUpTo(...args);
    },
  };
}

test('every entry is found, also when the slices do not fit', () => {
  const cache = new SliceCache(new BufferStorage(FILE), 65536, 4 * 4096);
  for (let step = 0; step < 20_000; step++) {
    const offset = ((step * 7919) % (FILE.length / 8)) * 8;
    expect(Number(cache.pool.readBigUInt64BE(cache.locate(offset, 8)))).toBe(offset);
    expect(cache.availableBytes).toBe(4096 - (offset % 4096));
  }
});

test('what fits is read once', () => {
  const storage = countReads(new BufferStorage(FILE));
  const cache = new SliceCache(storage, 65536, FILE.length);
  for (let round = 0; round < 3; round++) {
    for (let offset = 0; offset < FILE.length; offset += 512) cache.locate(offset, 8);
  }
  expect(storage.count).toBe(64);
});

test('a slice that is used again and again outlives a scan', () => {
  const storage = countReads(new BufferStorage(FILE));
  const cache = new SliceCache(storage, 65536, 4 * 4096);
  for (let slice = 1; slice < 64; slice++) {
    cache.locate(0, 8);
    cache.locate(slice * 4096, 8);
  }
  expect(storage.count).toBeLessThan(63 + 1 + 32);
});

test('an entry behind the end of the file is told, one before it is found', () => {
  const cache = new SliceCache(new BufferStorage(FILE.subarray(0, 4096 + 12)), 65536, 8 * 4096);
  expect(cache.locate(4096, 8)).toBeGreaterThanOrEqual(0);
  expect(cache.locate(4104, 8)).toBe(-1);
  expect(cache.locate(1 << 20, 8)).toBe(-1);
});

test('a read that fails leaves nothing behind', () => {
  const good = new BufferStorage(FILE);
  let fails = false;
  const cache = new SliceCache(
    {
      name: 'flaky',
      sizeBytes: FILE.length,
      readUpTo(...args) {
        if (fails) throw new Error('EIO');
        return good.readUpTo(...args);
      },
    },
    65536,
    2 * 4096,
  );
  cache.locate(0, 8);
  fails = true;
  for (let round = 0; round < 5; round++) expect(() => cache.locate(8192, 8)).toThrow('EIO');
  fails = false;
  for (const offset of [8192, 0, 12288, 4096]) {
    expect(Number(cache.pool.readBigUInt64BE(cache.locate(offset, 8)))).toBe(offset);
  }
});

test('slices are no larger than a cluster', () => {
  const storage = countReads(new BufferStorage(FILE));
  const cache = new SliceCache(storage, 512, 4096);
  cache.locate(0, 8);
  expect(cache.availableBytes).toBe(512);
});
