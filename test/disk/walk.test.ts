import { expect, test } from 'vitest';
import type { Disk, ExtentKind } from '../../src/disk/disk.ts';
import { countAllocatedBytes, seekData, seekHole } from '../../src/disk/walk.ts';

/** One extent of ten bytes for each kind; neighbours of a kind come as several extents. */
function diskOf(...kinds: ExtentKind[]): Disk {
  return {
    sizeBytes: kinds.length * 10,
    extentAt(offset, maxLengthBytes, into) {
      into.kind = kinds[Math.floor(offset / 10)] ?? 'damaged';
      into.lengthBytes = Math.min(maxLengthBytes, 10 - (offset % 10));
    },
    readAt: () => undefined,
    allocatedBytes: () => 0,
    metadataBytes: () => 0,
  };
}

const disk = diskOf('hole', 'zero', 'data', 'compressed', 'damaged', 'hole', 'data', 'zero');

test('SEEK_DATA finds what is stored, and damage, behind holes and zeros alike', () => {
  expect([0, 15, 20, 47, 50, 69].map((offset) => seekData(disk, offset))).toEqual([20, 20, 20, 47, 60, 69]);
});

test('SEEK_DATA finds nothing behind the last data', () => {
  expect([70, 79].map((offset) => seekData(disk, offset))).toEqual([undefined, undefined]);
});

test('SEEK_HOLE finds holes and zeros', () => {
  expect([0, 11, 20, 35, 49, 60].map((offset) => seekHole(disk, offset))).toEqual([0, 11, 50, 50, 50, 70]);
});

test('the end of the disk is a hole', () => {
  expect(seekHole(diskOf('data', 'data'), 3)).toBe(20);
});

test('allocated bytes are counted within a range', () => {
  const budget = { left: 100 };
  expect(countAllocatedBytes(disk, 0, 80, budget)).toBe(40);
  expect(countAllocatedBytes(disk, 25, 62, budget)).toBe(27);
});

test('a count ends when its look-ups are spent', () => {
  const budget = { left: 3 };
  expect(countAllocatedBytes(diskOf(...Array<ExtentKind>(100).fill('data')), 0, 1000, budget)).toBeLessThan(100);
  expect(budget.left).toBeLessThan(0);
});

test('a seek ends however many extents there are, and takes the rest for data', () => {
  for (const kind of ['data', 'zero'] as const) {
    let count = 0;
    const endless: Disk = {
      sizeBytes: 2 ** 50,
      extentAt: (_offset, _maxLengthBytes, into) => {
        count += 1;
        Object.assign(into, { kind, lengthBytes: 512 });
      },
      readAt: () => {},
      allocatedBytes: () => 0,
      metadataBytes: () => 0,
    };
    if (kind === 'data') expect(seekHole(endless, 0)).toBe(2 ** 50);
    else expect(seekData(endless, 0)).toBe(count * 512);
    // 2^41 of them would take days.
    expect(count).toBeLessThan(2 ** 40);
  }
});
