/**
 * What a kept delta is after the machine has lost its power: all that was written to its file is recorded, and of what was
 * written after the last fdatasync(2) any sectors may be lost.
 */

import fs from 'node:fs';
import { afterEach, expect, test, vi } from 'vitest';
import { BLOCK_BYTES, BLOCKS_PER_PAGE } from '../../src/overlay/delta-memory.ts';
import { closeDelta, openKeptDelta } from '../../src/overlay/open-delta.ts';
import { Random } from '../oracle/random.ts';
import { withMemoryFolder } from '../support/temporary-folder.ts';
import { BaseDisk } from './base-disk.ts';
import { overlayOf, readBytes } from './overlay-place.ts';

const SECTOR = 512;
const PIECE_BYTES = 65536;
const PAGE_BYTES = BLOCKS_PER_PAGE * BLOCK_BYTES;
const PAGE_COUNT = 3;
const CRASH_COUNT = 150;
const BASE_BYTE = 0xbb;
const OPTIONS = {
  sizeBytes: PAGE_COUNT * PAGE_BYTES,
  maxBytes: 2 ** 40,
  imagePath: 'a',
  stateText: 'b',
  identity: 'c',
};
/** Blocks that are written to and looked at: some of each page. */
const BLOCKS = Array.from({ length: 24 }, (_, index) => (index % PAGE_COUNT) * BLOCKS_PER_PAGE + 37 * index);

/** Bytes that were written to the file, or undefined for a sync of all before. */
type Event = { readonly position: number; readonly bytes: Buffer } | undefined;

/** A change: blocks that are full of `value` from then on. */
interface Change {
  readonly blocks: readonly number[];
  readonly value: number;
  /** How many events there were before and after it. */
  readonly begin: number;
  readonly end: number;
}

/** A sync that has returned: with how many events, after how many changes. */
interface Sync {
  readonly end: number;
  readonly changeCount: number;
}

afterEach(() => {
  vi.restoreAllMocks();
});

/** Records what is written to the file with this descriptor. */
function record(recordedFd: number): Event[] {
  const events: Event[] = [];
  const { writeSync, fdatasyncSync } = fs;
  const write = (fd: number, source: Buffer, offset: number, length: number, position: number) => {
    if (fd === recordedFd) events.push({ position, bytes: Buffer.from(source.subarray(offset, offset + length)) });
    return writeSync(fd, source, offset, length, position);
  };
  vi.spyOn(fs, 'writeSync').mockImplementation(write as typeof fs.writeSync);
  vi.spyOn(fs, 'fdatasyncSync').mockImplementation((fd) => {
    fdatasyncSync(fd);
    if (fd === recordedFd) events.push(undefined);
  });
  return events;
}

/** A file without its zeros. */
interface SparseFile {
  readonly sizeBytes: number;
  readonly pieces: readonly { readonly position: number; readonly bytes: Buffer }[];
}

function readSparse(file: string): SparseFile {
  const { size: sizeBytes } = fs.statSync(file);
  const pieces: SparseFile['pieces'][number][] = [];
  const zeros = Buffer.alloc(PIECE_BYTES);
  const fd = fs.openSync(file, 'r');
  for (let position = 0; position < sizeBytes; position += PIECE_BYTES) {
    const piece = Buffer.alloc(PIECE_BYTES);
    const bytes = piece.subarray(0, fs.readSync(fd, piece, 0, PIECE_BYTES, position));
    if (!bytes.equals(zeros.subarray(0, bytes.length))) pieces.push({ position, bytes });
  }
  fs.closeSync(fd);
  return { sizeBytes, pieces };
}

function writeSparse(file: string, { pieces, sizeBytes }: SparseFile): void {
  const fd = fs.openSync(file, 'w');
  fs.ftruncateSync(fd, sizeBytes);
  for (const { bytes, position } of pieces) fs.writeSync(fd, bytes, 0, bytes.length, position);
  fs.closeSync(fd);
}

/** Makes `file` what may be on the disk after `count` events. */
function replay(random: Random, events: readonly Event[], count: number, file: string): void {
  const lastSync = events.slice(0, count).lastIndexOf(undefined);
  const fd = fs.openSync(file, 'r+');
  const survival = random.pick([0.1, 0.5, 0.9]);
  for (const [index, event] of events.slice(0, count).entries()) {
    if (event === undefined) continue;
    for (let at = 0; at < event.bytes.length; at += SECTOR) {
      const length = Math.min(SECTOR, event.bytes.length - at);
      if (index > lastSync && !random.chance(survival)) continue;
      fs.writeSync(fd, event.bytes, at, length, event.position + at);
    }
  }
  fs.closeSync(fd);
}

/** What each sector of a block may be after `count` events. */
function allowedValues(block: number, changes: readonly Change[], syncs: readonly Sync[], count: number): number[] {
  const keptCount = syncs.findLast(({ end }) => end <= count)?.changeCount ?? 0;
  const values = [BASE_BYTE];
  for (const [index, { blocks, value, begin }] of changes.entries()) {
    if (begin > count || !blocks.includes(block)) continue;
    if (index < keptCount) values.length = 0;
    values.push(value);
  }
  return values;
}

test.each([1, 2, 3, 4])(
  'after a loss of power, what was synced is there, and the rest is there or not (seed %i)',
  (seed) =>
    withMemoryFolder(async (folder) => {
      const random = new Random(seed);
      const file = `${folder}/delta`;
      const base = new BaseDisk(OPTIONS.sizeBytes);
      base.bytes.fill(BASE_BYTE);
      const memory = await openKeptDelta(file, OPTIONS);
      const start = readSparse(file);
      const { disk } = overlayOf(base, memory);
      const events = record(memory.fd);
      const changes: Change[] = [];
      const syncs: Sync[] = [];
      for (let step = 0; step < 120; step++) {
        const begin = events.length;
        const choice = random.fraction();
        if (choice < 0.25) {
          disk.sync();
          syncs.push({ end: events.length, changeCount: changes.length });
          continue;
        }
        const block = random.pick(BLOCKS);
        const page = Math.floor(block / BLOCKS_PER_PAGE);
        const isPage = choice < 0.32;
        const value = isPage || choice < 0.45 ? 0 : (step % 180) + 1;
        if (isPage) disk.discardAt(page * PAGE_BYTES, PAGE_BYTES);
        else if (value === 0) disk.discardAt(block * BLOCK_BYTES, BLOCK_BYTES);
        else disk.writeAt(Buffer.alloc(BLOCK_BYTES, value), 0, block * BLOCK_BYTES, BLOCK_BYTES);
        const blocks = isPage ? BLOCKS.filter((other) => Math.floor(other / BLOCKS_PER_PAGE) === page) : [block];
        changes.push({ blocks, value, begin, end: events.length });
      }
      closeDelta(memory);
      vi.restoreAllMocks();

      for (let crash = 0; crash < CRASH_COUNT; crash++) {
        const count = random.below(events.length + 1);
        writeSparse(file, start);
        replay(random, events, count, file);
        const again = await openKeptDelta(file, OPTIONS);
        const { disk: reopened } = overlayOf(base, again);
        for (const block of BLOCKS) {
          const allowed = allowedValues(block, changes, syncs, count);
          const bytes = readBytes(reopened, block * BLOCK_BYTES, BLOCK_BYTES);
          const wrong = bytes.findIndex((byte) => !allowed.includes(byte));
          expect({ count, block, allowed, wrong }).toEqual({ count, block, allowed, wrong: -1 });
        }
        closeDelta(again);
      }
    }),
);
