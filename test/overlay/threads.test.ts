/** Several threads on one delta. */

import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { type DeltaMemory, SYNC_LOCK, USED_BLOCKS, WRITE_LOCK } from '../../src/overlay/delta-memory.ts';
import { closeDelta, createTemporaryDelta, openKeptDelta } from '../../src/overlay/open-delta.ts';
import type { OverlayDisk } from '../../src/overlay/overlay-disk.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { BaseDisk } from './base-disk.ts';
import { overlayOf, readBytes } from './overlay-place.ts';

const PROGRAM = new URL('thread-program.mjs', import.meta.url);
const BLOCK = 4096;

function startThread(memory: DeltaMemory, job: string, more: object = {}): Worker {
  return new Worker(PROGRAM, { workerData: { memory, job, ...more } });
}

function message<Message>(worker: Worker): Promise<Message> {
  return new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
}

/** A disk of `sizeBytes` bytes 0xbb, as the threads have it. */
function baseOf(sizeBytes: number): BaseDisk {
  const base = new BaseDisk(sizeBytes);
  base.bytes.fill(0xbb);
  return base;
}

test('threads that write to the same blocks do not lose what the others wrote', async () => {
  // As many as there may be cores: they wait for each other without sleeping.
  const [sizeBytes, rangeBytes, threadCount] = [1000 * BLOCK, 64, 2];
  const memory = createTemporaryDelta({ sizeBytes, maxBytes: sizeBytes });
  const arrivals = new SharedArrayBuffer(4);
  try {
    const threads = Array.from({ length: threadCount }, (_, index) =>
      startThread(memory, 'own-ranges', { index, threadCount, rangeBytes, arrivals, roundCount: 20_000 }),
    );
    const results = await Promise.all(threads.map((thread) => message<Result>(thread)));
    expect(results.map(({ wrongCount }) => wrongCount)).toEqual(threads.map(() => 0));
    const expected = Buffer.alloc(sizeBytes, 0xbb);
    for (const [range, value] of results.flatMap(({ last }) => [...last])) {
      expected.fill(value, range * rangeBytes, (range + 1) * rangeBytes);
    }
    const { disk } = overlayOf(baseOf(sizeBytes), memory);
    expect(readBytes(disk, 0, sizeBytes).equals(expected)).toBe(true);
    expect(disk.usedBytes).toBe(sizeBytes);
  } finally {
    closeDelta(memory);
  }
});

interface Result {
  readonly last: Map<number, number>;
  readonly wrongCount: number;
}

test('who reads without the lock sees a block as it was or as it is, never before it is there', async () => {
  const blockCount = 5000;
  const sizeBytes = blockCount * BLOCK;
  let readCount = 0;
  for (let round = 0; round < 5; round++) {
    const memory = createTemporaryDelta({ sizeBytes, maxBytes: sizeBytes });
    const flags = new Int32Array(new SharedArrayBuffer(8));
    try {
      const reader = startThread(memory, 'read-forever', { flags: flags.buffer });
      expect(await message(reader)).toBe('begins');
      const { disk } = overlayOf(baseOf(sizeBytes), memory);
      for (let block = 0; block < blockCount; block++) {
        Atomics.store(flags, 1, block);
        disk.writeAt(Buffer.alloc(10, (block % 100) + 1), 0, block * BLOCK, 10);
      }
      const result = message<{ readCount: number; wrongCount: number }>(reader);
      Atomics.store(flags, 0, 1);
      const { wrongCount, readCount: count } = await result;
      expect(wrongCount).toBe(0);
      readCount += count;
    } finally {
      Atomics.store(flags, 0, 1);
      closeDelta(memory);
    }
  }
  expect(readCount).toBeGreaterThan(1000);
});

test('the lock of a thread that died is freed, and only that one', async () => {
  const sizeBytes = 64 * BLOCK;
  const memory = createTemporaryDelta({ sizeBytes, maxBytes: sizeBytes });
  const { delta, disk } = overlayOf(baseOf(sizeBytes), memory);
  try {
    const holder = startThread(memory, 'stop-in-lock');
    const threadId = await message<number>(holder);
    const waiting = startThread(memory, 'write-once');
    expect(await message(waiting)).toBe('begins');
    const written = message(waiting);
    await holder.terminate();
    delta.releaseLockOf(threadId + 1000);
    delta.releaseLockOf(waiting.threadId);
    const patience = new Promise((resolve) => setTimeout(() => resolve('waits'), 300));
    expect(await Promise.race([written, patience])).toBe('waits');
    delta.releaseLockOf(threadId);
    expect(await written).toBe('written');
    expect(readBytes(disk, 5 * BLOCK + 99, 202)).toEqual(
      Buffer.concat([Buffer.alloc(101, 0xbb), Buffer.alloc(100, 2), Buffer.alloc(1, 0xbb)]),
    );
  } finally {
    closeDelta(memory);
  }
});

test('a thread that is ended at any moment leaves a delta that is right, and that can be kept', () =>
  withTemporaryFolder(async (folder) => {
    const sizeBytes = 2000 * BLOCK;
    const options = { sizeBytes, maxBytes: sizeBytes, imagePath: 'a', stateText: 'b', identity: 'c' };
    for (let round = 0; round < 30; round++) {
      let memory = await openKeptDelta(`${folder}/delta`, options);
      const base = baseOf(sizeBytes);
      const thread = startThread(memory, 'write-forever');
      const { threadId } = thread;
      await message(thread);
      await new Promise((resolve) => setTimeout(resolve, round % 25));
      await thread.terminate();
      const { delta, disk } = overlayOf(base, memory);
      delta.releaseLockOf(threadId);
      // Each 512 bytes are as the disk below has them, as they were written, or zeros.
      const bytes = readBytes(disk, 0, sizeBytes);
      expect([...new Set(bytes)].every((byte) => [0, 1, 0xbb].includes(byte))).toBe(true);
      expect(disk.usedBytes).toBe(countData(disk));
      closeDelta(memory);
      memory = await openKeptDelta(`${folder}/delta`, options);
      expect(readBytes(overlayOf(base, memory).disk, 0, sizeBytes).equals(bytes)).toBe(true);
      closeDelta(memory);
    }
  }));

test('what a thread left half done when it died is made right', () =>
  withTemporaryFolder(async (folder) => {
    const [sizeBytes, deadThreadId] = [2000 * BLOCK, 77];
    const options = { sizeBytes, maxBytes: sizeBytes, imagePath: 'a', stateText: 'b', identity: 'c' };
    const memory = await openKeptDelta(`${folder}/delta`, options);
    const { delta, disk } = overlayOf(baseOf(sizeBytes), memory);
    disk.writeAt(Buffer.alloc(3 * BLOCK, 1), 0, 0, 3 * BLOCK);
    const control = new Int32Array(memory.control);
    // It has marked blocks, and not counted them.
    control[WRITE_LOCK] = deadThreadId + 1;
    new BigInt64Array(memory.counters)[USED_BLOCKS] = 1n;
    // It has taken over what is to be synced, and not written it.
    control[SYNC_LOCK] = deadThreadId + 1;
    new Uint8Array(memory.dirty).fill(0);
    delta.releaseLockOf(deadThreadId);
    expect(disk.usedBytes).toBe(3 * BLOCK);
    closeDelta(memory);
    const again = await openKeptDelta(`${folder}/delta`, options);
    expect(readBytes(overlayOf(baseOf(sizeBytes), again).disk, 0, 3 * BLOCK)).toEqual(Buffer.alloc(3 * BLOCK, 1));
    closeDelta(again);
  }));

/** Bytes in the file of the delta, by the extents. */
function countData(disk: OverlayDisk): number {
  let count = 0;
  const extent = { kind: 'hole', lengthBytes: 0, hostOffset: -1, depth: 0 } as Parameters<OverlayDisk['extentAt']>[2];
  for (let at = 0; at < disk.sizeBytes; at += extent.lengthBytes) {
    disk.extentAt(at, disk.sizeBytes - at, extent);
    if (extent.kind === 'data' && extent.depth === 0) count += extent.lengthBytes;
  }
  return count;
}
