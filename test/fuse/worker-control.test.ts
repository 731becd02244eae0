import { describe, expect, it } from 'vitest';
import { createControlMemory, WorkerControl } from '../../src/fuse/worker-control.ts';

function makeControl(workerCount: number): WorkerControl {
  const control = new WorkerControl(createControlMemory());
  for (let slot = 0; slot < workerCount; slot++) control.enter(slot);
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
