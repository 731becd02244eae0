import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { createControlMemory, WorkerControl } from '../../src/fuse/worker-control.ts';

function makeControl(workerCount: number): WorkerControl {
  const control = new WorkerControl(createControlMemory());
  for (let slot = 0; slot < workerCount; slot++) control.enter(slot, 0);
  return control;
}

describe('the count of idle workers', () => {
  it('falls while requests are handled, and rises before the reply is written', () => {
    const control = makeControl(2);
    control.markBusy(0, true, 1, 0);
    control.markBusy(1, true, 2, 0);
    expect(control.idleCount).toBe(0);
    control.markHandled(0);
    expect(control.idleCount).toBe(1);
    control.markReplied(0);
    expect(control.idleCount).toBe(1);
  });

  it('stays right when a worker ends, whatever it was doing', () => {
    const control = makeControl(4);
    control.markBusy(1, true, 1, 0);
    control.markBusy(2, false, 2, 0);
    control.markBusy(3, true, 3, 0);
    control.markHandled(3);
    for (let slot = 0; slot < 4; slot++) control.clearSlot(slot);
    expect(control.idleCount).toBe(0);
  });
});

describe('the wish for one more worker', () => {
  it('comes from whoever takes the last idle place, and only once', () => {
    const control = makeControl(2);
    expect(control.markBusy(0, true, 1, 0)).toBe(false);
    expect(control.markBusy(1, true, 2, 0)).toBe(true);
    control.markHandled(1);
    control.markReplied(1);
    expect(control.markBusy(1, true, 3, 0)).toBe(false);
  });

  it('comes again when main has dealt with the first', () => {
    const control = makeControl(1);
    control.markBusy(0, true, 1, 0);
    control.markHandled(0);
    control.acceptGrowthWishes();
    expect(control.markBusy(0, true, 2, 0)).toBe(true);
  });
});

describe('clearSlot', () => {
  it('returns the request that a worker was handling or replying to, with all 64 bits', () => {
    const control = makeControl(2);
    control.markBusy(0, true, 0xffff_fffe, 0x8000_0001);
    control.markBusy(1, true, 4, 0);
    control.markHandled(1);
    expect(control.clearSlot(0)).toEqual({ uniqueLow: 0xffff_fffe, uniqueHigh: 0x8000_0001 });
    expect(control.clearSlot(1)).toEqual({ uniqueLow: 4, uniqueHigh: 0 });
  });

  it('returns nothing for a worker that waited, worked on a FORGET, or is gone already', () => {
    const control = makeControl(2);
    control.markBusy(1, false, 4, 0);
    expect(control.clearSlot(0)).toBeUndefined();
    expect(control.clearSlot(1)).toBeUndefined();
    expect(control.clearSlot(1)).toBeUndefined();
    expect(control.clearSlot(7)).toBeUndefined();
  });
});

describe('replyCount', () => {
  it('changes with every request that is done', () => {
    const control = makeControl(1);
    const before = control.replyCount;
    control.markBusy(0, true, 1, 0);
    control.markHandled(0);
    expect(control.replyCount).toBe(before);
    control.markReplied(0);
    expect(control.replyCount).not.toBe(before);
  });
});

describe('generations', () => {
  it('make a worker outdated until it has adopted the newest', () => {
    const control = makeControl(2);
    expect(control.isOutdated(0)).toBe(false);
    control.announceGeneration(1);
    expect([control.isOutdated(0), control.isOutdated(1)]).toEqual([true, true]);
    control.adopt(0, 1);
    expect([control.isOutdated(0), control.isOutdated(1)]).toEqual([false, true]);
    control.announceGeneration(2);
    expect([control.isOutdated(0), control.isOutdated(1)]).toEqual([true, true]);
  });

  it('of a worker that enters late are those that it was started with', () => {
    const control = makeControl(1);
    control.announceGeneration(3);
    control.enter(1, 3);
    control.enter(2, 2);
    expect([control.isOutdated(1), control.isOutdated(2)]).toEqual([false, true]);
  });

  it('before the newest are in use by those that handle a request to them, and by no others', () => {
    const control = makeControl(4);
    control.markBusy(0, true, 1, 0);
    control.markBusy(1, false, 2, 0);
    control.markBusy(2, true, 3, 0);
    control.markHandled(2);
    control.announceGeneration(1);
    expect(control.isEarlierInUse(1)).toBe(true);
    control.markHandled(0);
    expect(control.isEarlierInUse(1)).toBe(true);
    control.adopt(1, 1);
    expect(control.isEarlierInUse(1)).toBe(false);
  });

  it('are not in use any more by a worker that has crashed, nor by one that works on the newest', () => {
    const control = makeControl(2);
    control.announceGeneration(5);
    control.markBusy(0, true, 1, 0);
    expect(control.isEarlierInUse(5)).toBe(true);
    control.clearSlot(0);
    expect(control.isEarlierInUse(5)).toBe(false);
    control.adopt(1, 5);
    control.markBusy(1, true, 2, 0);
    expect(control.isEarlierInUse(5)).toBe(false);
    expect(control.isEarlierInUse(6)).toBe(true);
  });

  it('that are delivered already are not waited for', () => {
    const control = makeControl(1);
    control.announceGeneration(1);
    control.announceDelivery(0, 1);
    expect(control.awaitDelivery(0, 10)).toBe(true);
    control.adopt(0, 1);
    expect(control.isOutdated(0)).toBe(false);
    control.announceGeneration(2);
    expect(control.awaitDelivery(0, 10)).toBe(false);
  });

  it('are waited for by the thread of the worker until they are delivered, one after the other', async () => {
    const memory = createControlMemory();
    const control = new WorkerControl(memory);
    control.enter(0, 0);
    const worker = new Worker(WAITING_WORKER, { eval: true, workerData: { memory, module: MODULE } });
    try {
      await once(worker, 'message');
      for (const generation of [1, 2]) {
        const adopted = once(worker, 'message');
        // What is delivered again is no newer: it does not count.
        control.announceDelivery(0, generation - 1);
        control.announceDelivery(0, generation);
        expect(await adopted).toEqual([generation]);
      }
    } finally {
      await worker.terminate();
    }
  });
});

const MODULE = new URL('../../dist/fuse/worker-control.js', import.meta.url).href;
/** Says that it is there, then which generation it has waited for. */
const WAITING_WORKER = `
  const { parentPort, workerData } = require('node:worker_threads');
  import(workerData.module).then(({ WorkerControl }) => {
    const control = new WorkerControl(workerData.memory);
    parentPort.postMessage(0);
    for (const generation of [1, 2]) {
      control.awaitDelivery(0, 60_000);
      control.adopt(0, generation);
      parentPort.postMessage(generation);
    }
  });
`;
