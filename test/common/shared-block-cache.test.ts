import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import {
  createSharedBlockMemory,
  SharedBlockCache,
  type SharedBlockMemory,
} from '../../src/common/shared-block-cache.ts';

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

/**
 * A thread that begins to make block 4096 and then waits for `flags[0]`: dead if it is terminated, else slow. It makes a
 * block full of 9 and says what it read.
 */
async function startFilling(memory: SharedBlockMemory, flags: Int32Array): Promise<Worker> {
  const source = new URL('../../dist/common/shared-block-cache.js', import.meta.url).href;
  const program = `
    const { parentPort, workerData } = require('node:worker_threads');
    import(${JSON.stringify(source)}).then(({ SharedBlockCache }) => {
      const target = Buffer.alloc(${BLOCK});
      new SharedBlockCache(workerData.memory).read(4096, 1, 0, ${BLOCK}, target, 0, () => {
        parentPort.postMessage('filling');
        Atomics.wait(workerData.flags, 0, 0);
        return Buffer.alloc(${BLOCK}, 9);
      });
      parentPort.postMessage(target[0]);
    });`;
  const worker = new Worker(program, { eval: true, workerData: { memory, flags } });
  expect(await message(worker)).toBe('filling');
  return worker;
}

function message(worker: Worker): Promise<unknown> {
  return new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
}

test('a block whose thread died is made by one reader, and kept for all others', async () => {
  const memory = createSharedBlockMemory(BLOCK, BLOCK * 8);
  const worker = await startFilling(memory, new Int32Array(new SharedArrayBuffer(4)));
  await worker.terminate();
  let made = 0;
  for (let round = 0; round < 5; round++) {
    const cache = new SharedBlockCache(memory);
    const bytes = readBlock(cache, 4096, () => {
      made += 1;
      return Buffer.alloc(BLOCK, 7);
    });
    expect(bytes).toEqual(Buffer.alloc(BLOCK, 7));
  }
  expect(made).toBe(1);
});

test('a thread that was only slow harms no other block, and gives its own back', async () => {
  const memory = createSharedBlockMemory(BLOCK, BLOCK * 8);
  const flags = new Int32Array(new SharedArrayBuffer(4));
  const worker = await startFilling(memory, flags);
  const cache = new SharedBlockCache(memory);
  const readAll = () => {
    // All blocks of the one set, which the slow thread has one of.
    for (let key = 0; key < 8; key++) {
      expect(readBlock(cache, key * 4096, () => Buffer.alloc(BLOCK, key))).toEqual(Buffer.alloc(BLOCK, key));
    }
  };
  readAll();
  const slow = message(worker);
  Atomics.store(flags, 0, 1);
  Atomics.notify(flags, 0);
  expect(await slow).toBe(9);
  readAll();
  for (let key = 0; key < 8; key++) readBlock(cache, key * 4096, () => expect.unreachable('it was kept'));
});

test('a set whose lock is never given back is waited for once by a thread', () => {
  const memory = createSharedBlockMemory(BLOCK, BLOCK * 8);
  new Int32Array(memory.locks)[0] = 1;
  const cache = new SharedBlockCache(memory);
  // Each wait takes a second: all of them would take longer than a test may.
  for (let round = 0; round < 100; round++) {
    expect(readBlock(cache, 4096, () => Buffer.alloc(BLOCK, 7))).toEqual(Buffer.alloc(BLOCK, 7));
  }
});
