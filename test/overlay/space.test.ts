/** What a delta takes, what it may take, and what it gives back. */

import fs from 'node:fs';
import { describe, expect, test } from 'vitest';
import { Delta } from '../../src/overlay/delta.ts';
import type { DeltaMemory } from '../../src/overlay/delta-memory.ts';
import { closeDelta, createTemporaryDelta } from '../../src/overlay/open-delta.ts';
import { OverlayDisk } from '../../src/overlay/overlay-disk.ts';
import { type HolePuncher, loadLibraryPuncher, punchWithProgram } from '../../src/overlay/punch-hole.ts';
import { SpaceReturn } from '../../src/overlay/space-return.ts';
import { catchError } from '../support/catch-error.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { BaseDisk } from './base-disk.ts';
import { fileBytes, readBytes, withExt4, withOverlay, withRamfs, withTmpfs } from './overlay-place.ts';

const BLOCK = 4096;
const MIB = 2 ** 20;

describe('a delta that may take no more', () => {
  test('refuses writes to new blocks, with nothing changed, and takes those to blocks that it has', () => {
    const base = new BaseDisk(MIB);
    withOverlay(
      base,
      ({ disk }) => {
        disk.writeAt(Buffer.alloc(3 * BLOCK, 1), 0, BLOCK, 3 * BLOCK);
        const before = readBytes(disk, 0, MIB);
        const { writtenAtMs } = disk;
        const first = catchError(() => disk.writeAt(Buffer.alloc(3 * BLOCK, 2), 0, 3 * BLOCK, 3 * BLOCK));
        const second = catchError(() => disk.writeAt(Buffer.alloc(9 * BLOCK, 2), 0, 100 * BLOCK, 9 * BLOCK));
        expect(first).toMatchObject({ code: 'NO_SPACE', message: second.message });
        expect(first.message).toMatch(
          /^the delta in \/.* is full: it may take 16384 bytes; allow more with --max-delta/,
        );
        expect(catchError(() => disk.discardAt(6 * BLOCK + 1, BLOCK)).code).toBe('NO_SPACE');
        expect(readBytes(disk, 0, MIB).equals(before)).toBe(true);
        expect([disk.usedBytes, disk.writtenAtMs]).toEqual([3 * BLOCK, writtenAtMs]);

        disk.writeAt(Buffer.alloc(4 * BLOCK, 3), 0, BLOCK, 4 * BLOCK);
        expect(catchError(() => disk.writeAt(Buffer.alloc(1), 0, 0, 1)).code).toBe('NO_SPACE');
        // What is given back can be taken again.
        disk.discardAt(2 * BLOCK, BLOCK);
        disk.writeAt(Buffer.alloc(1, 4), 0, 50 * BLOCK, 1);
        expect(disk.usedBytes).toBe(4 * BLOCK);
      },
      { maxBytes: 4 * BLOCK + 4095 },
    );
  });
});

/** Fills the file system below the delta with writes until one fails, and checks that this one did nothing. */
function expectFullOnce(base: BaseDisk, { disk, memory }: { disk: OverlayDisk; memory: DeltaMemory }): void {
  const model = Buffer.from(base.bytes);
  const piece = 300_000;
  let failed = 0;
  for (let at = 1000; at + piece < base.sizeBytes; at += piece) {
    const used = disk.usedBytes;
    try {
      disk.writeAt(Buffer.alloc(piece, 7), 0, at, piece);
      model.fill(7, at, at + piece);
    } catch (error) {
      expect(error).toMatchObject({ code: 'NO_SPACE', message: expect.stringContaining('(ENOSPC)') });
      expect(disk.usedBytes).toBe(used);
      failed += 1;
    }
  }
  expect(failed).toBeGreaterThan(1);
  expect(readBytes(disk, 0, base.sizeBytes).equals(model)).toBe(true);
  // What failed does not keep the space: all that is taken is what was written, and what the file system needs for it.
  expect(fileBytes(memory)).toBeLessThan(disk.usedBytes + 100_000);

  // A disk that is full can be freed, and written again.
  disk.discardAt(0, 2 * MIB);
  model.fill(0, 0, 2 * MIB);
  disk.writeAt(Buffer.alloc(MIB, 8), 0, 5, MIB);
  model.fill(8, 5, 5 + MIB);
  expect(readBytes(disk, 0, base.sizeBytes).equals(model)).toBe(true);
}

describe('a file system that is full', () => {
  test('fails writes, with nothing changed: tmpfs', () =>
    withTemporaryFolder((folder) =>
      withTmpfs(folder, 5 * MIB, (mounted) => {
        const base = new BaseDisk(16 * MIB);
        withOverlay(base, (overlay) => expectFullOnce(base, overlay), { folder: mounted });
      }),
    ));

  test('fails writes, with nothing changed: ext4', () =>
    withTemporaryFolder((folder) =>
      withExt4(folder, 12 * MIB, (mounted) => {
        const base = new BaseDisk(32 * MIB);
        withOverlay(base, (overlay) => expectFullOnce(base, overlay), { folder: mounted });
      }),
    ));
});

const library = loadLibraryPuncher();
const WAYS: readonly (readonly [string, HolePuncher])[] = [
  ['koffi', library ?? (() => expect.unreachable('koffi is not installed'))],
  ['the program', punchWithProgram],
];

describe.each(WAYS)('what is discarded is given back with %s', (_, punch) => {
  /** 64 blocks written; 60 of them and two parts discarded. */
  function expectGivenBack(folder: string): void {
    const base = new BaseDisk(MIB);
    const memory = createTemporaryDelta({ sizeBytes: MIB, maxBytes: MIB, folder });
    try {
      const space = new SpaceReturn(memory, new Int32Array(memory.control), punch);
      const disk = new OverlayDisk(base, new Delta(memory, space), () => undefined);
      disk.writeAt(Buffer.alloc(64 * BLOCK, 1), 0, 0, 64 * BLOCK);
      expect(fileBytes(memory)).toBeGreaterThanOrEqual(64 * BLOCK);
      disk.discardAt(2 * BLOCK - 5, 60 * BLOCK + 10);
      expect(fileBytes(memory)).toBeLessThanOrEqual(5 * BLOCK);
      const expected = Buffer.alloc(64 * BLOCK, 1).fill(0, 2 * BLOCK - 5, 62 * BLOCK + 5);
      expect(readBytes(disk, 0, 64 * BLOCK).equals(expected)).toBe(true);
      expect(fs.fstatSync(memory.fd).size).toBe(MIB);
    } finally {
      closeDelta(memory);
    }
  }

  test('on the file system of the temporary files', () => withTemporaryFolder(expectGivenBack));
  test('on tmpfs', () => withTemporaryFolder((folder) => withTmpfs(folder, 4 * MIB, expectGivenBack)));
  test('on ext4', () => withTemporaryFolder((folder) => withExt4(folder, 12 * MIB, expectGivenBack)));

  test('and a file that cannot have holes is told apart', () =>
    withTemporaryFolder((folder) => {
      return withRamfs(folder, (mounted) => {
        const fd = fs.openSync(`${mounted}/file`, 'w+');
        try {
          fs.writeSync(fd, Buffer.alloc(2 * BLOCK, 1));
          expect(punch(fd, 0, BLOCK).kind).toBe('unsupported');
        } finally {
          fs.closeSync(fd);
        }
      });
    }));
});

test('where no holes can be made, what is discarded reads as zeros all the same, also after parts are written', () => {
  const base = new BaseDisk(MIB);
  const memory = createTemporaryDelta({ sizeBytes: MIB, maxBytes: MIB });
  let calls = 0;
  const punch: HolePuncher = () => {
    calls += 1;
    return { kind: 'unsupported', reason: 'EOPNOTSUPP' };
  };
  try {
    const space = new SpaceReturn(memory, new Int32Array(memory.control), punch);
    const disk = new OverlayDisk(base, new Delta(memory, space), () => undefined);
    disk.writeAt(Buffer.alloc(MIB, 1), 0, 0, MIB);
    disk.discardAt(0, MIB / 2);
    disk.discardAt(0, MIB);
    disk.writeAt(Buffer.alloc(10, 2), 0, BLOCK + 50, 10);
    const expected = Buffer.alloc(MIB).fill(2, BLOCK + 50, BLOCK + 60);
    expect(readBytes(disk, 0, MIB).equals(expected)).toBe(true);
    expect(disk.usedBytes).toBe(BLOCK);
    // It is not tried again, and the user is told once.
    expect(calls).toBe(1);
  } finally {
    closeDelta(memory);
  }
});

test('nothing is punched where nothing was written', () => {
  const memory = createTemporaryDelta({ sizeBytes: MIB, maxBytes: MIB });
  try {
    const space = new SpaceReturn(memory, new Int32Array(memory.control), () => expect.unreachable('not asked for'));
    new OverlayDisk(new BaseDisk(MIB), new Delta(memory, space), () => undefined).discardAt(0, MIB);
  } finally {
    closeDelta(memory);
  }
});
