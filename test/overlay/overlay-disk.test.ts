import { describe, expect, test } from 'vitest';
import { createExtent } from '../../src/disk/disk.ts';
import { Qcow2fsError } from '../../src/errors.ts';
import { Delta } from '../../src/overlay/delta.ts';
import { OverlayDisk } from '../../src/overlay/overlay-disk.ts';
import { catchError } from '../support/catch-error.ts';
import { BaseDisk } from './base-disk.ts';
import { readBytes, withOverlay } from './overlay-place.ts';

const BLOCK = 4096;

function extentOf(disk: OverlayDisk, offset: number, maxLengthBytes: number) {
  const extent = createExtent();
  disk.extentAt(offset, maxLengthBytes, extent);
  return extent;
}

test('extents are those of the disk below up to the next block that was written', () => {
  withOverlay(new BaseDisk(1_000_000), ({ disk }) => {
    // Data of the base: [20,000, 60,000).
    disk.writeAt(Buffer.alloc(2 * BLOCK, 1), 0, 8 * BLOCK, 2 * BLOCK);
    disk.discardAt(10 * BLOCK, BLOCK);
    expect(extentOf(disk, 20_000, 500_000)).toEqual({
      kind: 'data',
      lengthBytes: 12_768,
      hostOffset: 20_000,
      depth: 3,
    });
    expect(extentOf(disk, 8 * BLOCK + 5, 500_000)).toEqual({
      kind: 'data',
      lengthBytes: 2 * BLOCK - 5,
      hostOffset: -1,
      depth: 0,
    });
    expect(extentOf(disk, 10 * BLOCK, 500_000)).toEqual({ kind: 'zero', lengthBytes: BLOCK, hostOffset: -1, depth: 0 });
    expect(extentOf(disk, 8 * BLOCK, 17)).toMatchObject({ kind: 'data', lengthBytes: 17 });
    expect(extentOf(disk, 11 * BLOCK, 500_000)).toMatchObject({ depth: 3, lengthBytes: 60_000 - 11 * BLOCK });
  });
});

test('the delta takes what was written, in blocks', () => {
  withOverlay(new BaseDisk(1_000_000), ({ disk }) => {
    expect([disk.usedBytes, disk.writtenAtMs]).toEqual([0, 0]);
    disk.writeAt(Buffer.from('ab'), 0, BLOCK - 1, 2);
    expect(disk.usedBytes).toBe(2 * BLOCK);
    disk.writeAt(Buffer.from('ab'), 0, 10, 2);
    expect(disk.usedBytes).toBe(2 * BLOCK);
    disk.discardAt(0, BLOCK);
    expect(disk.usedBytes).toBe(BLOCK);
    expect(disk.writtenAtMs).toBeGreaterThan(Date.now() - 10_000);
  });
});

test('a part of a block that reads as zeros is discarded without taking space', () => {
  withOverlay(new BaseDisk(1_000_000), ({ disk }) => {
    disk.discardAt(0, 4 * BLOCK);
    disk.discardAt(100, 3 * BLOCK);
    expect(disk.usedBytes).toBe(0);
  });
});

test('whole blocks are written without reading the disk below, and read from the delta alone', () => {
  const base = new BaseDisk(10 * BLOCK + 100);
  withOverlay(base, ({ disk }) => {
    base.broken = [0, base.sizeBytes];
    disk.writeAt(Buffer.alloc(11 * BLOCK, 5), 0, 0, base.sizeBytes);
    disk.discardAt(2 * BLOCK, BLOCK);
    expect(readBytes(disk, 0, base.sizeBytes).subarray(2 * BLOCK - 1, 2 * BLOCK + 1)).toEqual(Buffer.from([5, 0]));
    expect(base.readCount).toBe(0);
  });
});

describe('a disk below that cannot be read', () => {
  test.each([
    { what: 'the head of a write', offset: 2 * BLOCK + 10, length: 3 * BLOCK - 10, broken: [2 * BLOCK, 2 * BLOCK + 1] },
    { what: 'the tail of a write', offset: 2 * BLOCK, length: 3 * BLOCK - 10, broken: [5 * BLOCK - 1, 5 * BLOCK] },
  ])('leaves all as it was: $what', ({ offset, length, broken }) => {
    const base = new BaseDisk(1_000_000);
    withOverlay(base, ({ disk }) => {
      disk.writeAt(Buffer.alloc(BLOCK, 9), 0, 3 * BLOCK, BLOCK);
      const before = readBytes(disk, 0, base.sizeBytes);
      const { usedBytes } = disk;
      base.broken = broken as [number, number];
      expect(catchError(() => disk.writeAt(Buffer.alloc(length, 1), 0, offset, length)).code).toBe('DAMAGED');
      expect(catchError(() => disk.discardAt(offset, length)).code).toBe('DAMAGED');
      base.broken = [0, 0];
      expect(readBytes(disk, 0, base.sizeBytes).equals(before)).toBe(true);
      expect(disk.usedBytes).toBe(usedBytes);
      // The lock is free again.
      disk.writeAt(Buffer.alloc(length, 1), 0, offset, length);
      expect(readBytes(disk, offset, length)).toEqual(Buffer.alloc(length, 1));
    });
  });

  test('is only read where a block keeps some of it', () => {
    const base = new BaseDisk(1_000_000);
    withOverlay(base, ({ disk }) => {
      base.broken = [2 * BLOCK + 10, 2 * BLOCK + 20];
      disk.writeAt(Buffer.alloc(10, 1), 0, 2 * BLOCK + 10, 10);
      expect(readBytes(disk, 2 * BLOCK + 10, 10)).toEqual(Buffer.alloc(10, 1));
    });
  });
});

test('a view whose state is gone can neither be read nor changed, not even where it was written', () => {
  withOverlay(new BaseDisk(1_000_000), ({ disk: written, memory }) => {
    written.writeAt(Buffer.alloc(BLOCK, 1), 0, 0, BLOCK);
    const stale = () => {
      throw new Qcow2fsError('STALE', 'the snapshot was deleted');
    };
    const disk = new OverlayDisk(new BaseDisk(1_000_000), new Delta(memory), stale);
    expect(catchError(() => readBytes(disk, 0, 10)).code).toBe('STALE');
    expect(catchError(() => disk.writeAt(Buffer.alloc(BLOCK, 2), 0, 0, BLOCK)).code).toBe('STALE');
    expect(catchError(() => disk.discardAt(0, BLOCK)).code).toBe('STALE');
    expect(readBytes(written, 0, BLOCK)).toEqual(Buffer.alloc(BLOCK, 1));
  });
});
