/** The map of a kept delta has its space before it is needed: what was written can be kept on a file system that is full. */

import fs from 'node:fs';
import { describe, expect, test } from 'vitest';
import type { Disk } from '../../src/disk/disk.ts';
import { openKeptDelta } from '../../src/overlay/open-delta.ts';
import { catchError } from '../support/catch-error.ts';
import { runCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { BaseDisk } from './base-disk.ts';
import { fillWith, type Overlay, overlayOf, readBytes, withExt4, withTmpfs } from './overlay-place.ts';

const BLOCK = 4096;
const MIB = 2 ** 20;
/** What one page of the map stands for. */
const PAGE_BYTES = 64 * MIB;
const PAGE_COUNT = 4;
/** Of a disk with fewer than 4,097 pages, behind the header and the kinds. */
const MAP_START = 2 * BLOCK;

const base = new BaseDisk(PAGE_COUNT * PAGE_BYTES);

async function open(file: string, disk: Disk = base): Promise<Overlay> {
  const names = { imagePath: 'a', stateText: 'b', identity: 'c' };
  return overlayOf(disk, await openKeptDelta(file, { sizeBytes: disk.sizeBytes, maxBytes: 2 ** 40, ...names }));
}

/** Blocks of 1 KiB are what mkfs.ext4 takes for small file systems: the kinds of a page do not share one with all others. */
const withSmallBlocks = (folder: string, body: (mounted: string) => Promise<void>) =>
  withExt4(folder, 12 * MIB, body, ['-b', '1024']);

/** A disk that is nothing but a hole. */
function holes(sizeBytes: number): Disk {
  return {
    sizeBytes,
    extentAt(_offset, maxLengthBytes, into) {
      Object.assign(into, { kind: 'hole', lengthBytes: maxLengthBytes, hostOffset: -1, depth: 0 });
    },
    readAt: (target, targetOffset, _offset, length) => void target.fill(0, targetOffset, targetOffset + length),
    allocatedBytes: () => 0,
    metadataBytes: () => 0,
  };
}

const PLACES = [
  ['tmpfs', (folder: string, body: (mounted: string) => Promise<void>) => withTmpfs(folder, 4 * MIB, body)],
  [
    'ext4',
    (folder: string, body: (mounted: string) => Promise<void>) => withExt4(folder, 12 * MIB, body, ['-b', '4096']),
  ],
  ['ext4 with blocks of 1 KiB', withSmallBlocks],
] as const;

describe.each(PLACES)('on a %s that its blocks have filled', (_, withPlace) => {
  test('all that was accepted is kept', () =>
    withTemporaryFolder((folder) =>
      withPlace(folder, async (mounted) => {
        const { disk, memory } = await open(`${mounted}/delta`);
        const written: number[] = [];
        const writeAll = () => {
          for (let at = 0; ; at++) {
            const offset = (at % PAGE_COUNT) * PAGE_BYTES + Math.floor(at / PAGE_COUNT) * BLOCK;
            disk.writeAt(Buffer.alloc(BLOCK, at), 0, offset, BLOCK);
            written.push(offset);
          }
        };
        expect(catchError(writeAll)).toMatchObject({ code: 'NO_SPACE' });
        expect(written.length).toBeGreaterThan(500);
        // In pages that have nothing yet, and in those that have: whole ones, and parts.
        disk.sync();
        fs.closeSync(memory.fd);
        const again = await open(`${mounted}/delta`);
        for (const [at, offset] of written.entries()) {
          if (!readBytes(again.disk, offset, BLOCK).equals(Buffer.alloc(BLOCK, at))) expect.unreachable(`${offset}`);
        }
        fs.closeSync(again.memory.fd);
      }),
    ));

  test('a page that has no space is not written to, nor discarded, until there is some', () =>
    withTemporaryFolder((folder) =>
      withPlace(folder, async (mounted) => {
        const { disk, memory } = await open(`${mounted}/delta`);
        disk.writeAt(Buffer.alloc(BLOCK, 1), 0, 0, BLOCK);
        fillWith(`${mounted}/ballast`);
        const before = readBytes(disk, PAGE_BYTES, 3 * BLOCK);
        expect(catchError(() => disk.discardAt(PAGE_BYTES + 10, BLOCK))).toMatchObject({ code: 'NO_SPACE' });
        expect(catchError(() => disk.discardAt(PAGE_BYTES, BLOCK))).toMatchObject({ code: 'NO_SPACE' });
        expect(readBytes(disk, PAGE_BYTES, 3 * BLOCK)).toEqual(before);
        // What needs no more space: the kind of a whole page, and what has its page.
        disk.discardAt(2 * PAGE_BYTES, PAGE_BYTES);
        disk.discardAt(8 * BLOCK, BLOCK);
        disk.sync();
        fs.unlinkSync(`${mounted}/ballast`);
        disk.discardAt(PAGE_BYTES, BLOCK);
        disk.sync();
        fs.closeSync(memory.fd);
        const again = await open(`${mounted}/delta`);
        expect(readBytes(again.disk, 0, BLOCK)).toEqual(Buffer.alloc(BLOCK, 1));
        expect(readBytes(again.disk, 8 * BLOCK, BLOCK)).toEqual(Buffer.alloc(BLOCK));
        expect(readBytes(again.disk, PAGE_BYTES, BLOCK)).toEqual(Buffer.alloc(BLOCK));
        expect(readBytes(again.disk, 2 * PAGE_BYTES + 5 * BLOCK, BLOCK)).toEqual(Buffer.alloc(BLOCK));
        fs.closeSync(again.memory.fd);
      }),
    ));
});

test('pages have space for their kinds also where the blocks of the file system are small', () =>
  withTemporaryFolder((folder) =>
    withSmallBlocks(folder, async (mounted) => {
      const wide = holes(2000 * PAGE_BYTES);
      const { disk, memory } = await open(`${mounted}/delta`, wide);
      for (const page of [0, 1500]) disk.writeAt(Buffer.alloc(BLOCK, 5), 0, page * PAGE_BYTES, BLOCK);
      fillWith(`${mounted}/ballast`, 512);
      disk.sync();
      fs.closeSync(memory.fd);
      const again = await open(`${mounted}/delta`, wide);
      for (const page of [0, 1500]) {
        expect(readBytes(again.disk, page * PAGE_BYTES, BLOCK)).toEqual(Buffer.alloc(BLOCK, 5));
      }
      fs.closeSync(again.memory.fd);
    }),
  ));

/** The file system believes that its disk is larger than it is. */
test('a delta whose disk has failed gives no bytes any more', () =>
  withTemporaryFolder((folder) =>
    withTmpfs(folder, 4 * MIB, async (tmpfs) => {
      fs.mkdirSync(`${tmpfs}/inner`);
      await withExt4(`${tmpfs}/inner`, 32 * MIB, async (mounted) => {
        const { disk, memory } = await open(`${mounted}/delta`);
        const bytes = Buffer.alloc(8 * MIB, 'x');
        disk.writeAt(bytes, 0, 0, bytes.length);
        expect(readBytes(disk, 0, BLOCK)).toEqual(bytes.subarray(0, BLOCK));
        expect(catchError(() => disk.sync())).toMatchObject({ code: 'IO' });
        const failure = { code: 'IO', message: expect.stringContaining('its disk has failed') };
        expect(catchError(() => readBytes(disk, 0, BLOCK))).toMatchObject(failure);
        expect(catchError(() => disk.writeAt(bytes, 0, 0, BLOCK))).toMatchObject(failure);
        expect(catchError(() => disk.discardAt(0, BLOCK))).toMatchObject(failure);
        expect(catchError(() => disk.sync())).toMatchObject(failure);
        // What is not in its file is as it was.
        expect(readBytes(disk, PAGE_BYTES, BLOCK)).toEqual(readBytes(base, PAGE_BYTES, BLOCK));
        fs.closeSync(memory.fd);
      });
    }),
  ));

test('a map that somebody else has made a hole again fails the sync, which can be tried again', () =>
  withTemporaryFolder((folder) =>
    withTmpfs(folder, MIB, async (mounted) => {
      const { disk, memory } = await open(`${mounted}/delta`);
      disk.writeAt(Buffer.alloc(BLOCK, 1), 0, 0, BLOCK);
      runCommand('fallocate', ['--punch-hole', '-o', `${MAP_START}`, '-l', `${BLOCK}`, `${mounted}/delta`]);
      fillWith(`${mounted}/ballast`);
      expect(catchError(() => disk.sync())).toMatchObject({
        code: 'NO_SPACE',
        message: expect.stringContaining('ENOSPC'),
      });
      fs.unlinkSync(`${mounted}/ballast`);
      disk.sync();
      fs.closeSync(memory.fd);
      const again = await open(`${mounted}/delta`);
      expect(readBytes(again.disk, 0, BLOCK)).toEqual(Buffer.alloc(BLOCK, 1));
      fs.closeSync(again.memory.fd);
    }),
  ));

test('what was kept is there until the next sync, whatever happens to its page meanwhile', () =>
  withTemporaryFolder(async (folder) => {
    const file = `${folder}/delta`;
    const first = await open(file);
    first.disk.writeAt(Buffer.alloc(BLOCK, 1), 0, PAGE_BYTES, BLOCK);
    first.disk.discardAt(PAGE_BYTES + 30 * BLOCK, 10 * BLOCK);
    first.disk.discardAt(2 * PAGE_BYTES, PAGE_BYTES);
    first.disk.sync();
    fs.closeSync(first.memory.fd);
    const second = await open(file);
    second.disk.discardAt(PAGE_BYTES, PAGE_BYTES);
    for (const page of [1, 2]) second.disk.writeAt(Buffer.alloc(BLOCK, 7), 0, page * PAGE_BYTES + 20 * BLOCK, BLOCK);
    // What a process leaves that is killed now.
    runCommand('cp', ['--sparse=always', file, `${file}.killed`]);
    fs.closeSync(second.memory.fd);
    const { disk, memory } = await open(`${file}.killed`);
    // Its block in the file was given back at once: it is as before, or as it is to be.
    expect(readBytes(disk, PAGE_BYTES, BLOCK)).toEqual(Buffer.alloc(BLOCK));
    expect(readBytes(disk, PAGE_BYTES + BLOCK, 29 * BLOCK)).toEqual(readBytes(base, PAGE_BYTES + BLOCK, 29 * BLOCK));
    expect(readBytes(disk, PAGE_BYTES + 30 * BLOCK, 10 * BLOCK)).toEqual(Buffer.alloc(10 * BLOCK));
    expect(readBytes(disk, 2 * PAGE_BYTES, 30 * BLOCK)).toEqual(Buffer.alloc(30 * BLOCK));
    fs.closeSync(memory.fd);
  }));
