/**
 * A thread of the tests: writes to an overlay in the way that `workerData.job` says. Runs from the built sources, as a worker
 * of Node.js does not take TypeScript.
 */

import { parentPort, threadId, workerData } from 'node:worker_threads';
import { Delta } from '../../dist/overlay/delta.js';
import { OverlayDisk } from '../../dist/overlay/overlay-disk.js';

const { memory, job } = workerData;

/** Reads as 0xbb; the read at `stopAt` never ends. */
function baseDisk(stopAt) {
  return {
    sizeBytes: memory.sizeBytes,
    extentAt() {
      throw new Error('not asked for');
    },
    readAt(target, targetOffset, offset, length) {
      if (offset === stopAt) {
        parentPort.postMessage(threadId);
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
      }
      target.fill(0xbb, targetOffset, targetOffset + length);
    },
    allocatedBytes: () => 0,
    metadataBytes: () => 0,
  };
}

const JOBS = {
  /** Writes and discards the ranges that are its own, and says which byte each has in the end. */
  'own-ranges'() {
    const { index, threadCount, rangeBytes, roundCount } = workerData;
    const disk = new OverlayDisk(baseDisk(), new Delta(memory), () => {});
    const rangeCount = Math.floor(memory.sizeBytes / rangeBytes);
    const last = new Map();
    const ownCount = Math.floor(rangeCount / threadCount);
    const back = Buffer.alloc(rangeBytes);
    let wrongCount = 0;
    // First all threads at once write to a block that none of them has written to, one block after the other.
    const arrivals = new Int32Array(workerData.arrivals);
    const perBlock = 4096 / rangeBytes;
    for (let block = 0; block < memory.sizeBytes / 4096; block++) {
      Atomics.add(arrivals, 0, 1);
      while (Atomics.load(arrivals, 0) < (block + 1) * threadCount);
      const range = Math.ceil((block * perBlock) / threadCount) * threadCount + index;
      disk.writeAt(Buffer.alloc(rangeBytes, index + 1), 0, range * rangeBytes, rangeBytes);
      last.set(range, index + 1);
    }
    let state = index + 1;
    for (let round = 0; round < roundCount; round++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      const own = Math.floor((state / 2 ** 32) * ownCount);
      const range = own * threadCount + index;
      const value = (round % 250) + 1;
      if (round % 7 === 0) {
        disk.discardAt(range * rangeBytes, rangeBytes);
        last.set(range, 0);
      } else {
        disk.writeAt(Buffer.alloc(rangeBytes, value), 0, range * rangeBytes, rangeBytes);
        last.set(range, value);
      }
      // Others write to the same block meanwhile, and never to this range.
      disk.readAt(back, 0, range * rangeBytes, rangeBytes);
      const expected = last.get(range);
      if (!back.every((byte) => byte === expected)) wrongCount += 1;
    }
    parentPort.postMessage({ last, wrongCount });
  },

  /** Holds the lock for ever: the disk below does not answer. */
  'stop-in-lock'() {
    const disk = new OverlayDisk(baseDisk(5 * 4096), new Delta(memory), () => {});
    disk.writeAt(Buffer.alloc(100, 1), 0, 5 * 4096 + 100, 100);
  },

  /** Says when it has written. */
  'write-once'() {
    const disk = new OverlayDisk(baseDisk(), new Delta(memory), () => {});
    parentPort.postMessage('begins');
    disk.writeAt(Buffer.alloc(100, 2), 0, 5 * 4096 + 200, 100);
    parentPort.postMessage('written');
  },

  /** Writes until it is ended. */
  'write-forever'() {
    const disk = new OverlayDisk(baseDisk(), new Delta(memory), () => {});
    // A thread must not be ended while it loads koffi, which it does when it first gives space back.
    disk.writeAt(Buffer.alloc(4096), 0, 0, 4096);
    disk.discardAt(0, 4096);
    parentPort.postMessage('begins');
    for (let round = 0; ; round++) {
      const offset = (round * 7919 * 512) % (memory.sizeBytes - 20_000);
      if (round % 3 === 0) disk.discardAt(offset, 20_000);
      else disk.writeAt(Buffer.alloc(20_000, 1), 0, offset, 20_000);
      if (round % 50 === 0) disk.sync();
    }
  },

  /** Counts how often the first byte of a block is neither that of the disk below nor what is written over it. */
  'read-forever'() {
    const disk = new OverlayDisk(baseDisk(), new Delta(memory), () => {});
    const flags = new Int32Array(workerData.flags);
    const target = Buffer.alloc(4096);
    let wrongCount = 0;
    let readCount = 0;
    parentPort.postMessage('begins');
    while (Atomics.load(flags, 0) === 0) {
      // The one that is being written.
      const block = Atomics.load(flags, 1);
      disk.readAt(target, 0, block * 4096, 4096);
      readCount += 1;
      if (target[0] !== 0xbb && target[0] !== (block % 100) + 1) wrongCount += 1;
    }
    parentPort.postMessage({ readCount, wrongCount });
  },
};

JOBS[job]();
