/** Random changes of an overlay, compared with a buffer that is changed in the same way. */

import { describe, expect, test } from 'vitest';
import { createExtent, type Disk, isSparse } from '../../src/disk/disk.ts';
import { WindowDisk } from '../../src/disk/window-disk.ts';
import type { WritableDisk } from '../../src/disk/writable-disk.ts';
import { BLOCK_BYTES, BLOCKS_PER_PAGE } from '../../src/overlay/delta-memory.ts';
import { closeDelta, openKeptDelta } from '../../src/overlay/open-delta.ts';
import { MappedDisk } from '../../src/volumes/mapped-disk.ts';
import { Random } from '../oracle/random.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { BaseDisk } from './base-disk.ts';
import { overlayOf, readBytes, withOverlay } from './overlay-place.ts';

const PAGE_BYTES = BLOCKS_PER_PAGE * BLOCK_BYTES;
/** `OVERLAY_SEED` tries other changes. */
const SEED = Number(process.env.OVERLAY_SEED ?? 1);
const STEP_COUNT = 1500;
const REOPEN_COUNT = 6;

/** The disk, or a part of it: what is at `offset` of `disk` is at `start` + `offset` of the overlay. */
interface View {
  readonly disk: WritableDisk;
  readonly start: number;
}

/** Pieces of a disk in another order: [start in the mapped disk, start in the overlay, length]. */
const PIECES = [
  [0, 70_000, 30_001],
  [30_001, 5_000, 40_000],
  [70_001, 300_000, 12_288],
] as const;

function viewsOf(disk: WritableDisk): View[] {
  const window = new WindowDisk(disk, 8191, Math.min(disk.sizeBytes - 8191, PAGE_BYTES + 50_000));
  const segments = PIECES.map(([startBytes, offset, sizeBytes]) => ({ startBytes, offset, sizeBytes, disk }));
  const mapped = new MappedDisk(82_289, segments);
  const pieces = PIECES.map(([at, start, length]) => ({ disk: new WindowDisk(mapped, at, length), start }));
  return [{ disk, start: 0 }, { disk, start: 0 }, { disk: window, start: 8191 }, ...pieces];
}

/** Near the limits of blocks and pages, and anywhere. */
function pickOffset(random: Random, limit: number): number {
  const unit = random.pick([1, 512, BLOCK_BYTES, BLOCK_BYTES, PAGE_BYTES]);
  const near = Math.floor(random.below(limit) / unit) * unit + random.pick([0, 0, 0, 1, -1, 100]);
  return Math.max(0, Math.min(limit - 1, near));
}

function pickLength(random: Random, limit: number, offset: number): number {
  const length = random.chance(0.5)
    ? random.length(limit)
    : Math.ceil(random.length(limit) / BLOCK_BYTES) * BLOCK_BYTES;
  return Math.min(length, 1_000_000, limit - offset);
}

/** Sometimes at least a page of the map, which then has no entries. */
function pickDiscardLength(random: Random, limit: number, offset: number): number {
  if (random.chance(0.9)) return pickLength(random, limit, offset);
  return Math.min(PAGE_BYTES + random.length(PAGE_BYTES) - 1, limit - offset);
}

/** One change, or none, of the view and of what it is to read as. */
function step(random: Random, { disk, start }: View, model: Buffer): void {
  const offset = pickOffset(random, disk.sizeBytes);
  const choice = random.fraction();
  if (choice < 0.5) {
    const length = pickLength(random, disk.sizeBytes, offset);
    const source = random.bytes(length + 10);
    disk.writeAt(source, 7, offset, length);
    source.copy(model, start + offset, 7, 7 + length);
  } else if (choice < 0.75) {
    const length = pickDiscardLength(random, disk.sizeBytes, offset);
    disk.discardAt(offset, length);
    model.fill(0, start + offset, start + offset + length);
  } else if (choice < 0.78) disk.sync();
  const at = pickOffset(random, disk.sizeBytes);
  const length = Math.min(random.length(300_000), disk.sizeBytes - at);
  const isSame = readBytes(disk, at, length).equals(model.subarray(start + at, start + at + length));
  expect({ at, length, isSame }).toEqual({ at, length, isSame: true });
}

/** All bytes, and that what is said to be sparse is zeros. */
function expectModel(disk: Disk, model: Buffer): void {
  expect(readBytes(disk, 0, disk.sizeBytes).equals(model)).toBe(true);
  const extent = createExtent();
  let allocated = 0;
  for (let at = 0; at < disk.sizeBytes; at += extent.lengthBytes) {
    disk.extentAt(at, disk.sizeBytes - at, extent);
    expect(extent.lengthBytes).toBeGreaterThan(0);
    if (!isSparse(extent.kind)) allocated += extent.lengthBytes;
    else expect(isZero(model, at, at + extent.lengthBytes)).toBe(true);
  }
  expect(disk.allocatedBytes()).toBe(allocated);
}

function isZero(bytes: Buffer, from: number, to: number): boolean {
  return from >= to || (bytes[from] === 0 && bytes.subarray(from, to - 1).equals(bytes.subarray(from + 1, to)));
}

describe.each([
  { what: 'of less than a block', sizeBytes: 1000, views: false },
  { what: 'of some blocks and a part', sizeBytes: 409_600 + 513, views: true },
  { what: 'of whole blocks', sizeBytes: 1_048_576, views: true },
  { what: 'of several pages of the map', sizeBytes: 2 * PAGE_BYTES + 5_000_001, views: true },
])('a disk $what', ({ sizeBytes, views, what }) => {
  test('reads as what was written to it, through all its windows', () => {
    const base = new BaseDisk(sizeBytes);
    const model = Buffer.from(base.bytes);
    const random = new Random(SEED * 1000 + what.length);
    withOverlay(base, ({ disk }) => {
      const all = views ? viewsOf(disk) : [{ disk, start: 0 }];
      for (let count = 0; count < STEP_COUNT; count++) step(random, random.pick(all), model);
      expectModel(disk, model);
      expect(disk.writtenAtMs).toBeGreaterThan(Date.now() - 600_000);
    });
  });

  test('goes on where it was when its delta is kept', () =>
    withTemporaryFolder(async (folder) => {
      const base = new BaseDisk(sizeBytes);
      const model = Buffer.from(base.bytes);
      const random = new Random(SEED * 2000 + what.length);
      const options = { sizeBytes, maxBytes: 2 ** 40, imagePath: 'a', stateText: 'b', identity: 'c' };
      let usedBytes = 0;
      for (let round = 0; round < REOPEN_COUNT; round++) {
        const memory = await openKeptDelta(`${folder}/delta`, options);
        const { disk } = overlayOf(base, memory);
        expect(disk.usedBytes).toBe(usedBytes);
        expectModel(disk, model);
        const all = views ? viewsOf(disk) : [{ disk, start: 0 }];
        for (let count = 0; count < STEP_COUNT / REOPEN_COUNT / 2; count++) step(random, random.pick(all), model);
        usedBytes = disk.usedBytes;
        closeDelta(memory);
      }
    }));
});
