import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { createSharedBlockMemory, SharedBlockCache } from '../../src/common/shared-block-cache.ts';

const BLOCK = 64;

function readBlock(cache: SharedBlockCache, key: number, make: () => Buffer): Buffer {
  const target = Buffer.alloc(BLOCK);
  cache.read(key, 1, 0, BLOCK, target, 0, make);
  return target;
}

test('a block is made once and then copied', () => {
  const cache = new SharedBlockCache(createSharedBlockMemory(BLOCK, BLOCK * 64));
  let made = 0;
  const make = () => {
    made += 1;
    return Buffer.alloc(BLOCK, 7);
  };
  expect(readBlock(cache, 4096, make)).toEqual(Buffer.alloc(BLOCK, 7));
  expect(readBlock(cache, 4096, make)).toEqual(Buffer.alloc(BLOCK, 7));
  expect(made).toBe(1);
  const part = Buffer.alloc(3);
  cache.read(4096, 1, 10, 2, part, 1, make);
  expect(part).toEqual(Buffer.from([0, 7, 7]));
});

test('the tag tells blocks of one key apart', () => {
  const cache = new SharedBlockCache(createSharedBlockMemory(BLOCK, BLOCK * 64));
  const target = Buffer.alloc(1);
  for (const tag of [1, 2, 1, 2]) {
    cache.read(0, tag, 0, 1, target, 0, () => Buffer.alloc(BLOCK, tag));
    expect(target[0]).toBe(tag);
  }
});

test('more blocks than fit are all right, just made again', () => {
  const cache = new SharedBlockCache(createSharedBlockMemory(BLOCK, BLOCK * 16));
  for (let step = 0; step < 5000; step++) {
    const key = (step * 7919) % 101;
    expect(readBlock(cache, key * 65536, () => Buffer.alloc(BLOCK, key))[0]).toBe(key);
  }
});

test('a block that cannot be made is not kept, and the error is passed on', () => {
  const cache = new SharedBlockCache(createSharedBlockMemory(BLOCK, BLOCK * 64));
  const fail = () => {
    throw new Error('damaged');
  };
  expect(() => readBlock(cache, 1, fail)).toThrow('damaged');
  expect(() => readBlock(cache, 1, fail)).toThrow('damaged');
  expect(readBlock(cache, 1, () => Buffer.alloc(BLOCK, 3))[0]).toBe(3);
});

test('threads that read the same blocks at once get the right bytes', async () => {
  const memory = createSharedBlockMemory(BLOCK, BLOCK * 32);
  const source = new URL('../../dist/common/shared-block-cache.js', import.meta.url).href;
  const program = `
    const { parentPort, workerData } = require('node:worker_threads');
    import(${JSON.stringify(source)}).then(({ SharedBlockCache }) => {
      const cache = new SharedBlockCache(workerData.memory);
      const target = Buffer.alloc(${BLOCK});
      let wrong = 0;
      for (let step = 0; step < 30000; step++) {
        const key = (step * workerData.stride) % 61;
        cache.read(key * 4096, 1, 0, ${BLOCK}, target, 0, () => Buffer.alloc(${BLOCK}, key));
        if (!target.every((byte) => byte === key)) wrong += 1;
      }
      parentPort.postMessage(wrong);
    });`;
  const results = [7919, 104729, 31].map(
    (stride) =>
      new Promise((resolve, reject) => {
        const worker = new Worker(program, { eval: true, workerData: { memory, stride } });
        worker.once('message', resolve);
        worker.once('error', reject);
      }),
  );
  expect(await Promise.all(results)).toEqual([0, 0, 0]);
});
