/** Exported states of random images beside what QEMU reads in these states. */

import fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import { sha256OfFile } from '../support/hash.ts';
import { withMemoryFolder } from '../support/temporary-folder.ts';
import { differingClusters, expectWholeImage, exportTo, infoOf, storedClusters } from './exported.ts';
import {
  BACKING_CASES,
  type ImageCase,
  MOUNTED_CASES,
  UNUSUAL_CASES,
  VERSION_2_CASES,
  VERSION_3_CASES,
} from './matrix.ts';
import { runQemuIo } from './qemu.ts';
import { seedOf } from './random.ts';
import { makeRandomImage } from './random-image.ts';
import { type TrueState, trueStates } from './truth.ts';

/** `ORACLE_SEED=2 npx vitest …` exports other images than the usual ones. */
const BASE_SEED = Number(process.env.ORACLE_SEED ?? 1);

/** `EXPORT_CASES=all`: all kinds of images there are, in place of one for each way in which bytes come to the reader. */
const CASES: readonly ImageCase[] =
  process.env.EXPORT_CASES === 'all'
    ? [...VERSION_2_CASES, ...VERSION_3_CASES, ...BACKING_CASES, ...UNUSUAL_CASES]
    : MOUNTED_CASES;

interface Export {
  readonly image: string;
  readonly state: TrueState;
  readonly stateName: string;
  /** The current state. */
  readonly below: Buffer;
  readonly file: string;
}

describe('each state of a random image', () => {
  it.each(CASES)('is exported: $title', (imageCase) =>
    withMemoryFolder(async (folder) => {
      const seed = seedOf(imageCase.title, BASE_SEED);
      // Apart from the exports, which find it by its absolute path.
      const source = `${folder}/source`;
      fs.mkdirSync(source);
      const image = makeRandomImage(source, imageCase, seed);
      const states = trueStates(image, folder);
      const sha256 = sha256OfFile(image);
      const below = fs.readFileSync(states[0]?.rawPath ?? '');
      for (const state of states) {
        const stateName = state.snapshot === undefined ? 'current' : `id:${state.snapshot.id}`;
        const which = { image, state, stateName, below };
        await expectFlatCopy({ ...which, file: `${folder}/flat.qcow2` });
        await expectOverlay({ ...which, file: `${folder}/overlay.qcow2` });
      }
      expect(sha256OfFile(image), `seed ${seed}`).toBe(sha256);
    }),
  );
});

async function expectFlatCopy({ file, image, state, stateName }: Export): Promise<void> {
  await exportTo(file, image, stateName, true);
  expectWholeImage(file, state.rawPath);
  expect(infoOf(file)).not.toHaveProperty('backing-filename');
  // No more than it needs.
  const truth = fs.readFileSync(state.rawPath);
  expect(storedClusters(file), `seed of ${image}, ${state.title}`).toEqual(differingClusters(truth, Buffer.alloc(0)));
  expectWritable(file, state.rawPath);
  fs.rmSync(file);
}

async function expectOverlay({ below, file, image, state, stateName }: Export): Promise<void> {
  await exportTo(file, image, stateName, false);
  expectWholeImage(file, state.rawPath);
  expect(infoOf(file)).toMatchObject({ 'backing-filename': image, 'backing-filename-format': 'qcow2' });
  const truth = fs.readFileSync(state.rawPath);
  const differing = differingClusters(truth, below);
  const zeros = new Set(differingClusters(truth, Buffer.alloc(0)));
  expect(storedClusters(file), `seed of ${image}, ${state.title}`).toEqual(differing.filter((at) => zeros.has(at)));
  expectWritable(file, state.rawPath);
  fs.rmSync(file);
}

/** A machine goes on with the disk: afterwards the file is whole as well. Changes the raw file, and changes it back. */
function expectWritable(file: string, rawPath: string): void {
  const truth = fs.readFileSync(rawPath);
  const written = Buffer.from(truth);
  const ranges = [0, Math.floor(truth.length / 2 / 512) * 512 + 512, truth.length - 1536];
  const length = 1536;
  for (const [index, offset] of ranges.entries()) written.fill(index + 0x61, offset, offset + length);
  runQemuIo(
    file,
    ranges.map((offset, index) => `write -q -P ${index + 0x61} ${offset} ${length}`),
  );
  fs.writeFileSync(rawPath, written);
  expectWholeImage(file, rawPath);
  fs.writeFileSync(rawPath, truth);
}
