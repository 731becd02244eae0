/** Every state of many kinds of images, read through a real mount, is what QEMU reads. */

import fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import { MOUNTED_CASES } from '../oracle/matrix.ts';
import { type MapEntry, mapImage, mapRawFile } from '../oracle/qemu.ts';
import { seedOf } from '../oracle/random.ts';
import { makeRandomImage } from '../oracle/random-image.ts';
import { trueStates } from '../oracle/truth.ts';
import { sha256OfFile } from '../support/hash.ts';
import { withMount } from '../support/mounted-image.ts';
import { withMemoryFolder } from '../support/temporary-folder.ts';
import { diskFile } from './state-files.ts';

/** Not a seed of the oracle tests, so that these are other images. */
const BASE_SEED = 1_000;

describe.each(MOUNTED_CASES)('$title', (imageCase) => {
  const seed = seedOf(imageCase.title, BASE_SEED);

  it(`shows the bytes, sizes and holes of every state (seed ${seed})`, () =>
    withMemoryFolder(async (folder) => {
      const image = makeRandomImage(folder, imageCase, seed);
      const states = trueStates(image, folder);
      await withMount(image, (mountpoint) => {
        for (const state of states) {
          const file = diskFile(mountpoint, state);
          const { blocks, size } = fs.statSync(file);
          expect(size, state.title).toBe(fs.statSync(state.rawPath).size);
          expect(sha256OfFile(file), state.title).toBe(sha256OfFile(state.rawPath));
          const map = mapRawFile(file);
          expectZeros(state.rawPath, map, state.title);
          expect(blocks * 512, state.title).toBe(allocatedBytes(map));
        }
        const current = mapRawFile(`${mountpoint}/current/disk.raw`);
        expect(sparseness(current)).toEqual(sparseness(mapImage(image)));
      });
    }));
});

function expectZeros(rawPath: string, map: readonly MapEntry[], title: string): void {
  const bytes = fs.readFileSync(rawPath);
  for (const { length, start } of map.filter(({ data }) => !data)) {
    const isZero = bytes.subarray(start, start + length).equals(Buffer.alloc(length));
    expect(isZero, `${title}: ${length} bytes from ${start} on are a hole`).toBe(true);
  }
}

function allocatedBytes(map: readonly MapEntry[]): number {
  return map.filter(({ data }) => data).reduce((sum, { length }) => sum + length, 0);
}

/** Where the map changes between data and zeros; whole sectors, as a disk of a raw file of odd size ends in zeros. */
function sparseness(map: readonly MapEntry[]): string[] {
  const changes: string[] = [];
  let last: boolean | undefined;
  for (const { data, start } of map) {
    if (data === last || start % 512 !== 0) continue;
    changes.push(`${start}: ${data ? 'data' : 'zeros'}`);
    last = data;
  }
  return changes;
}
