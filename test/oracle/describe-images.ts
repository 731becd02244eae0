/** The comparison of random images with QEMU, a group of tests for each. */

import fs from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createExtent, type Disk, type ExtentKind, isSparse } from '../../src/disk/disk.ts';
import { seekData, seekHole } from '../../src/disk/walk.ts';
import { closeLayers } from '../../src/open-image/layers.ts';
import { type OpenImage, openImage, snapshotsOf } from '../../src/open-image/open-image.ts';
import { StateDisks } from '../../src/open-image/state-disks.ts';
import { sha256OfFile } from '../support/hash.ts';
import { createMemoryFolder } from '../support/temporary-folder.ts';
import { expectSameMap } from './expect-same-map.ts';
import { dataRanges, type ListedExtent, listExtents } from './extent-list.ts';
import type { ImageCase } from './matrix.ts';
import { listSnapshots } from './qemu.ts';
import { Random, seedOf } from './random.ts';
import { makeRandomImage } from './random-image.ts';
import { type TrueState, trueStates } from './truth.ts';

/** `ORACLE_SEED=2 npx vitest …` compares other images than the usual ones. */
const BASE_SEED = Number(process.env.ORACLE_SEED ?? 1);
const RANDOM_READ_COUNT = 100;
const RANDOM_LOOKUP_COUNT = 150;

/** A state that is compared: the reader's disk and QEMU's bytes. */
interface ComparedState {
  readonly disk: Disk;
  readonly truth: Buffer;
  readonly title: string;
}

/**
 * Compares all images of a group, and makes sure that their states held each of `kinds`, as a comparison of what is not
 * there proves nothing.
 */
export function describeImages(imageCases: readonly ImageCase[], kinds: readonly ExtentKind[]): void {
  const kindsFound = new Set<ExtentKind>();
  for (const imageCase of imageCases) describeImage(imageCase, kindsFound);

  it(`met extents of the kinds ${kinds.join(', ')}`, () => {
    expect([...kindsFound].sort()).toEqual([...kinds].sort());
  });
}

function describeImage(imageCase: ImageCase, kindsFound: Set<ExtentKind>): void {
  const seed = seedOf(imageCase.title, BASE_SEED);

  describe(`${imageCase.title} (seed ${seed})`, () => {
    const folder = createMemoryFolder();
    const random = new Random(seed ^ 0xffff);
    let imagePath: string;
    let sha256: string;
    let image: OpenImage | undefined;
    let disks: StateDisks;
    let states: ReadState[];

    beforeAll(() => {
      imagePath = makeRandomImage(folder.name, imageCase, seed);
      sha256 = sha256OfFile(imagePath);
      states = trueStates(imagePath, folder.name).map(readTruth);
      image = openImage(imagePath);
      disks = new StateDisks(image);
    });

    afterAll(() => {
      if (image !== undefined) closeLayers(image.layers);
      states = [];
      folder.removeCallback();
    });

    function* comparedStates(): Generator<ComparedState> {
      for (const [index, { title, truth }] of states.entries()) {
        yield { disk: disks.disk(index), truth, title: `seed ${seed}, ${title}` };
      }
    }

    it('has the snapshots that QEMU lists, in their order', () => {
      const snapshots = image && Array.from(snapshotsOf(image), ({ entry: { id, name } }) => ({ id, name }));
      expect(snapshots).toEqual(listSnapshots(imagePath));
      expect(image?.problems).toEqual([]);
    });

    it('has the virtual size of each state', () => {
      for (const { disk, title, truth } of comparedStates()) expect(disk.sizeBytes, title).toBe(truth.length);
    });

    it('reads every byte of each state', () => {
      for (const { disk, title, truth } of comparedStates()) {
        const bytes = Buffer.alloc(disk.sizeBytes, 0xa5);
        const step = Math.ceil(disk.sizeBytes / 13);
        for (let at = 0; at < bytes.length; at += step) disk.readAt(bytes, at, at, Math.min(step, bytes.length - at));
        expectSameBytes(bytes, truth, 0, title);
      }
    });

    it('reads ranges of any offset and length', () => {
      for (const { disk, title, truth } of comparedStates()) {
        const room = Buffer.alloc(truth.length + 2);
        for (let count = 0; count < RANDOM_READ_COUNT; count++) {
          const offset = random.below(truth.length);
          const length = Math.min(truth.length - offset, random.length(truth.length));
          const bytes = room.subarray(0, length + 2).fill(0xa5);
          disk.readAt(bytes, 1, offset, length);
          expectSameBytes(bytes.subarray(1, -1), truth.subarray(offset, offset + length), offset, title);
          expect([bytes[0], bytes[length + 1]], `${title}: bytes beside the target`).toEqual([0xa5, 0xa5]);
        }
      }
    });

    it('calls nothing sparse that QEMU reads as data, and finds data where it says', () => {
      const file = fs.readFileSync(imagePath);
      for (const { disk, title, truth } of comparedStates()) {
        for (const extent of listExtents(disk)) {
          expectExtentHolds(extent, truth, file, title);
          kindsFound.add(extent.kind);
        }
      }
    });

    it('gives the same extents however they are asked for', () => {
      for (const { disk, title } of comparedStates()) {
        const extents = listExtents(disk);
        for (let count = 0; count < RANDOM_LOOKUP_COUNT; count++) {
          const offset = random.below(disk.sizeBytes);
          const maxLength = random.length(disk.sizeBytes - offset);
          expectSameExtent(disk, extents, offset, maxLength, title);
        }
      }
    });

    it('seeks data and holes at the bounds of the extents', () => {
      for (const { disk, title } of comparedStates()) {
        const ranges = dataRanges(listExtents(disk));
        const offsets = ranges.flatMap(({ end, start }) => [start - 1, start, start + 1, end - 1, end]);
        for (let count = 0; count < RANDOM_LOOKUP_COUNT; count++) offsets.push(random.below(disk.sizeBytes));
        for (const offset of offsets.filter((at) => at >= 0 && at < disk.sizeBytes)) {
          const range = ranges.find(({ end }) => end > offset);
          const data = range && Math.max(offset, range.start);
          expect(seekData(disk, offset), `${title}: data from ${offset} on`).toBe(data);
          const hole = range !== undefined && range.start <= offset ? range.end : offset;
          expect(seekHole(disk, offset), `${title}: hole from ${offset} on`).toBe(hole);
        }
      }
    });

    it('counts as allocated what is not sparse', () => {
      for (const { disk, title } of comparedStates()) {
        const ranges = dataRanges(listExtents(disk));
        const expected = ranges.reduce((sum, { end, start }) => sum + end - start, 0);
        expect(disk.allocatedBytes(), title).toBe(expected);
      }
    });

    it('maps each state as qemu-img map does, to the byte', () => {
      for (const state of states) expectSameMap(imagePath, state, `seed ${seed}, ${state.title}`);
    });

    it('leaves the image as it was', () => {
      expect(sha256OfFile(imagePath)).toBe(sha256);
    });
  });
}

interface ReadState extends TrueState {
  readonly truth: Buffer;
}

function readTruth(state: TrueState): ReadState {
  const truth = fs.readFileSync(state.rawPath);
  fs.rmSync(state.rawPath);
  return { ...state, truth };
}

/** `toEqual` on buffers of this size takes seconds, and its message would show them. */
function expectSameBytes(actual: Buffer, expected: Buffer, offset: number, title: string): void {
  if (actual.equals(expected)) return;
  let at = 0;
  while (at < actual.length && actual[at] === expected[at]) at++;
  expect.fail(`${title}: byte ${offset + at} is ${actual[at]}, and QEMU reads ${expected[at]}`);
}

let someZeros = Buffer.alloc(0);

function zeros(length: number): Buffer {
  if (someZeros.length < length) someZeros = Buffer.alloc(length);
  return someZeros.subarray(0, length);
}

function expectExtentHolds(extent: ListedExtent, truth: Buffer, file: Buffer, title: string): void {
  const { depth, hostOffset, kind, lengthBytes, offset } = extent;
  const where = `${title}: ${kind} extent of ${lengthBytes} bytes`;
  expect(kind, where).not.toBe('damaged');
  const bytes = truth.subarray(offset, offset + lengthBytes);
  if (isSparse(kind)) expectSameBytes(zeros(lengthBytes), bytes, offset, where);
  if (kind === 'data' && depth === 0) {
    expectSameBytes(file.subarray(hostOffset, hostOffset + lengthBytes), bytes, offset, where);
  }
}

function expectSameExtent(
  disk: Disk,
  extents: readonly ListedExtent[],
  offset: number,
  maxLength: number,
  title: string,
): void {
  const whole = extents.find((extent) => offset < extent.offset + extent.lengthBytes);
  if (whole === undefined) throw new Error(`${title}: no extent at ${offset}`);
  const extent = createExtent();
  disk.extentAt(offset, maxLength, extent);
  const where = `${title}: ${maxLength} bytes from ${offset} on`;
  const within = offset - whole.offset;
  const hostOffset = whole.hostOffset < 0 ? whole.hostOffset : whole.hostOffset + within;
  const { lengthBytes } = extent;
  const isWithin = lengthBytes > 0 && lengthBytes <= Math.min(maxLength, whole.lengthBytes - within);
  const { depth, kind } = whole;
  expect({ ...extent, isWithin }, where).toEqual({ kind, depth, hostOffset, lengthBytes, isWithin: true });
}
