/** What deleting snapshots frees, beside what QEMU frees when it deletes them. */

import fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type ImageSpace, measureSpace, statesByDate } from '../../src/open-image/measure-space.ts';
import { snapshotsOf } from '../../src/open-image/open-image.ts';
import { withSteadyImage } from '../../src/open-image/steady-image.ts';
import { runCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { BACKING_CASES, type ImageCase, UNUSUAL_CASES, VERSION_2_CASES, VERSION_3_CASES } from './matrix.ts';
import { deleteSnapshot } from './qemu.ts';
import { Random, seedOf } from './random.ts';
import { makeRandomImage } from './random-image.ts';
import { clustersInUse, snapshotTableClusters } from './refcounts-of.ts';
import { runMachine } from './vm-state.ts';

const BASE_SEED = Number(process.env.ORACLE_SEED ?? 1);

/** Large clusters make large images; `SPACE_CASES=all` measures those of all sizes. */
const MAX_CLUSTER_BYTES = process.env.SPACE_CASES === 'all' ? 2 ** 21 : 2 ** 16;

const CASES: readonly ImageCase[] = [
  ...VERSION_2_CASES,
  ...VERSION_3_CASES.filter(({ endsDirty }) => !endsDirty),
  ...BACKING_CASES.filter(({ backing, version }) => version === 3 && backing?.title === 'a longer qcow2 backing file'),
  ...UNUSUAL_CASES.filter(({ maxSnapshotCount }) => maxSnapshotCount > 0),
].filter(({ clusterBytes }) => clusterBytes <= MAX_CLUSTER_BYTES);

function measure(imagePath: string, chosen: readonly number[] = []): { space: ImageSpace; names: string[] } {
  return withSteadyImage(imagePath, (header, file) => ({
    space: measureSpace(header, file, { chosen, writerOf: () => undefined }),
    names: Array.from(snapshotsOf(header), ({ entry }) => entry.name),
  }));
}

/** The clusters that are free after QEMU has deleted the snapshots from a copy, without those of the snapshot table. */
function freedByQemu(imagePath: string, names: readonly string[]): number {
  const copy = `${imagePath}.deleted`;
  fs.copyFileSync(imagePath, copy);
  try {
    for (const name of names) deleteSnapshot(copy, name);
    const [before, after] = [clustersInUse(imagePath), clustersInUse(copy)];
    for (const cluster of snapshotTableClusters(imagePath)) before.delete(cluster);
    for (const cluster of snapshotTableClusters(copy)) after.delete(cluster);
    return [...before].filter((cluster) => !after.has(cluster)).length;
  } finally {
    fs.rmSync(copy);
  }
}

describe.each(CASES)('$title', (imageCase) => {
  const seed = seedOf(imageCase.title, BASE_SEED) + 7;
  it(`deleting snapshots frees what is said (seed ${seed})`, () =>
    withTemporaryFolder((folder) => {
      const image = makeRandomImage(folder, imageCase, seed);
      const clusterBytes = imageCase.clusterBytes;
      const { space, names } = measure(image);
      expect(names.length).toBeGreaterThan(0);
      expect(space.problems).toEqual([]);
      for (const [index, name] of names.entries()) {
        expect((space.usageOf(index + 1)?.freeableBytes ?? -1) / clusterBytes, name).toBe(freedByQemu(image, [name]));
      }
      const random = new Random(seed);
      const chosen = names.map((_, index) => index + 1).filter(() => random.chance(0.6));
      const freed = measure(image, chosen).space.chosen;
      const chosenNames = chosen.map((state) => names[state - 1] ?? '');
      expect(freed.freeableBytes / clusterBytes, chosenNames.join(', ')).toBe(freedByQemu(image, chosenNames));
      const all = names.map((_, index) => index + 1);
      expect(measure(image, all).space.chosen.freeableBytes / clusterBytes).toBe(freedByQemu(image, names));
      expect(withSteadyImage(image, (header) => statesByDate(header))).toHaveLength(names.length + 1);
    }));
});

describe('snapshots with the state of a machine', () => {
  it('free its clusters too, one by one and together', () =>
    withTemporaryFolder((folder) => {
      const image = `${folder}/machine.qcow2`;
      runCommand('qemu-img', ['create', '-q', '-f', 'qcow2', image, '64M']);
      const write = (pattern: number, where: string) => `qemu-io disk "write -P ${pattern} ${where}"`;
      runMachine(image, ['savevm one', write(7, '0 1M'), 'savevm two', write(8, '512k 1M'), 'savevm three']);
      const names = ['one', 'two', 'three'];
      expect(measure(image).names).toEqual(names);
      for (const chosen of [[1], [2], [3], [1, 3], [1, 2, 3]]) {
        const { freeableBytes } = measure(image, chosen).space.chosen;
        const freed = freedByQemu(
          image,
          chosen.map((state) => names[state - 1] ?? ''),
        );
        expect(freeableBytes / 65_536, String(chosen)).toBe(freed);
        // The memory of the machine is the most of it.
        expect(freed).toBeGreaterThan(8);
      }
    }));
});
