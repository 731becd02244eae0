/** What differs between two states, beside a comparison of the bytes that QEMU reads in them. */

import fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import { diffStates, type StateDiff } from '../../src/open-image/diff-states.ts';
import { NO_CHAIN_OPTIONS } from '../../src/open-image/layers.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { BACKING_CASES, type ImageCase, UNUSUAL_CASES, VERSION_2_CASES, VERSION_3_CASES } from './matrix.ts';
import type { MapEntry } from './qemu.ts';
import { seedOf } from './random.ts';
import { makeRandomImage } from './random-image.ts';
import { type TrueState, trueStates } from './truth.ts';

const BASE_SEED = Number(process.env.ORACLE_SEED ?? 1);
const SECTOR_BYTES = 512;

/** Large clusters make large images; `DIFF_CASES=all` compares those of all sizes. */
const MAX_CLUSTER_BYTES = process.env.DIFF_CASES === 'all' ? 2 ** 21 : 2 ** 16;

const CASES: readonly ImageCase[] = [
  ...VERSION_2_CASES,
  ...VERSION_3_CASES.filter(({ clusterBytes }) => clusterBytes !== 512),
  ...BACKING_CASES.filter(({ clusterBytes, version }) => version === 3 && clusterBytes === 4096),
  ...UNUSUAL_CASES.filter(
    ({ maxSnapshotCount, options }) => maxSnapshotCount > 1 && options.includes('extended_l2=on'),
  ),
].filter(({ clusterBytes }) => clusterBytes <= MAX_CLUSTER_BYTES);

const nameOf = ({ snapshot }: TrueState) => (snapshot === undefined ? 'current' : `id:${snapshot.id}`);

function diff(image: string, a: TrueState, b: TrueState, isExact: boolean): Promise<StateDiff> {
  return diffStates(image, nameOf(a), nameOf(b), {
    ...{ isExact, hasVolumes: false, writerOf: () => undefined },
    chain: NO_CHAIN_OPTIONS,
    passphrasesOf: () => Promise.resolve([]),
  });
}

/** For each sector of the longer disk: is it in a range? */
function coveredSectors({ ranges, aSizeBytes, bSizeBytes }: StateDiff): Uint8Array {
  const covered = new Uint8Array(Math.ceil(Math.max(aSizeBytes, bSizeBytes) / SECTOR_BYTES));
  let end = -1;
  for (const { start, length } of ranges) {
    // In order, and none that could be part of the one before.
    expect(start).toBeGreaterThan(end);
    end = start + length;
    covered.fill(1, start / SECTOR_BYTES, Math.ceil(end / SECTOR_BYTES));
  }
  expect(end).toBeLessThanOrEqual(Math.max(aSizeBytes, bSizeBytes));
  return covered;
}

function readPadded(path: string, sizeBytes: number): Buffer {
  const bytes = Buffer.alloc(sizeBytes);
  fs.readFileSync(path).copy(bytes);
  return bytes;
}

/** For each unit: do the bytes differ? Behind the end of the shorter one are zeros. */
function differingUnits(a: TrueState, b: TrueState, unitBytes: number): boolean[] {
  const size = Math.max(fs.statSync(a.rawPath).size, fs.statSync(b.rawPath).size);
  const [one, other] = [readPadded(a.rawPath, size), readPadded(b.rawPath, size)];
  return Array.from({ length: Math.ceil(size / unitBytes) }, (_, index) => {
    const [start, end] = [index * unitBytes, Math.min(size, (index + 1) * unitBytes)];
    return one.compare(other, start, end, start, end) !== 0;
  });
}

/** For each sector, where QEMU has its bytes: in which layer, at which offset. */
function placesOf({ map, rawPath }: TrueState, count: number): (string | undefined)[] {
  const places: (string | undefined)[] = new Array(count).fill(undefined);
  const sectors = fs.statSync(rawPath).size / SECTOR_BYTES;
  for (const { start, length, depth, offset, data, zero } of JSON.parse(map) as MapEntry[]) {
    for (let at = start / SECTOR_BYTES; at < Math.min(sectors, (start + length) / SECTOR_BYTES); at++) {
      if (data && offset !== undefined) places[at] = `${depth}:${offset + at * SECTOR_BYTES - start}`;
      else if (zero && depth === 0) places[at] = 'zeros';
    }
  }
  return places;
}

describe.each(CASES)('$title', (imageCase) => {
  const seed = seedOf(imageCase.title, BASE_SEED) + 8;
  it(`no byte that differs is missed, and nothing that is shared is told (seed ${seed})`, () =>
    withTemporaryFolder(async (folder) => {
      const image = makeRandomImage(folder, imageCase, seed);
      const states = trueStates(image, folder);
      const hasSubclusters = imageCase.options.includes('extended_l2=on');
      const unitBytes = hasSubclusters ? imageCase.clusterBytes / 32 : imageCase.clusterBytes;
      expect(states.length).toBeGreaterThan(1);
      let changedBytes = 0;
      for (const a of states) {
        for (const b of states) {
          const title = `${a.title} and ${b.title}`;
          const found = await diff(image, a, b, false);
          expect(found.problems).toEqual([]);
          const covered = coveredSectors(found);
          changedBytes += found.ranges.totalBytes;
          const differing = differingUnits(a, b, SECTOR_BYTES);
          expect(
            differing.findIndex((differs, sector) => differs && covered[sector] === 0),
            title,
          ).toBe(-1);
          const [one, other] = [placesOf(a, covered.length), placesOf(b, covered.length)];
          const isShared = (sector: number) => one[sector] !== undefined && one[sector] === other[sector];
          // With a backing file, zeros that are stored as such are not those of one that is not there.
          const isKnown = (sector: number) => one[sector] !== 'zeros' || imageCase.backing === undefined;
          const excess = covered.findIndex((isIn, sector) => isIn === 1 && isShared(sector) && isKnown(sector));
          expect(excess, title).toBe(-1);
          // Opened anew each time, which takes a while: one direction tells what both do.
          if (states.indexOf(a) < states.indexOf(b)) await expectExact(image, a, b, unitBytes, title);
        }
      }
      expect(changedBytes).toBeGreaterThan(0);
    }));
});

async function expectExact(image: string, a: TrueState, b: TrueState, unitBytes: number, title: string): Promise<void> {
  const exact = await diff(image, a, b, true);
  const expected = differingUnits(a, b, unitBytes);
  const covered = new Array(expected.length).fill(false);
  for (const { start, length } of exact.ranges) {
    for (let unit = Math.floor(start / unitBytes); unit * unitBytes < start + length; unit++) covered[unit] = true;
  }
  expect(covered, title).toEqual(expected);
}
