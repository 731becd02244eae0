/** `check` beside `qemu-img check`: random images, healthy and damaged in every way that there is. */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CheckOptions } from '../../src/qcow2/check/check-qcow2.ts';
import { sha256OfFile } from '../support/hash.ts';
import { createMemoryFolder } from '../support/temporary-folder.ts';
import { DamagedImage } from './damaged-image.ts';
import { DAMAGES, type Damage } from './damages.ts';
import { expectSameCheck } from './expect-same-check.ts';
import { BACKING_CASES, type ImageCase, UNUSUAL_CASES, VERSION_2_CASES, VERSION_3_CASES } from './matrix.ts';
import { checkWithQemu, createSnapshot, listSnapshots, runQemuIo } from './qemu.ts';
import { Random, seedOf } from './random.ts';
import { makeRandomImage } from './random-image.ts';

/** `ORACLE_SEED=2 CHECK_ROUNDS=5 npx vitest …` checks other images and more damages than usual. */
const BASE_SEED = Number(process.env.ORACLE_SEED ?? 1);
const DAMAGES_OF_A_KIND = Number(process.env.CHECK_ROUNDS ?? 1);

const widths = [1, 2, 4, 8, 16, 32, 64].map(
  (bits): ImageCase => ({
    title: `refcounts of ${bits} bits, small clusters`,
    version: 3,
    clusterBytes: 4096,
    diskBytes: 3 * 1024 * 1024,
    options: [`refcount_bits=${bits}`],
    backing: undefined,
    // Compressed clusters that share a cluster of the file need many.
    writesCompressed: bits > 4,
    maxSnapshotCount: bits === 1 ? 0 : bits === 2 ? 1 : 4,
    endsDirty: false,
  }),
);

const CASES: readonly ImageCase[] = [
  ...VERSION_2_CASES,
  // How clusters are compressed makes no difference.
  ...VERSION_3_CASES.filter(({ title }) => !title.includes('zstd')),
  ...UNUSUAL_CASES.filter(({ backing }) => backing === undefined),
  ...BACKING_CASES.filter(({ clusterBytes, version }) => clusterBytes === 65536 && version === 3).slice(0, 1),
  ...widths,
];

/** About five passes. */
function smallWindows(imagePath: string): CheckOptions {
  const image = new DamagedImage(imagePath);
  image.close();
  return { windowClusters: Math.ceil(image.clusterCount / 5 / 8) * 8 };
}

/** How often QEMU ended with each exit code: a comparison that never meets one proves little. */
const statuses = new Map<number | null, number>();

function compareDamaged(imagePath: string, { apply, title }: Damage, seed: number, rounds: number): void {
  const random = new Random(seedOf(title, seed));
  const image = new DamagedImage(imagePath);
  const windows = smallWindows(imagePath);
  try {
    for (let round = 0; round < rounds; round++) {
      if (!apply(image, random)) return;
      const status = expectSameCheck(imagePath, `${title}, round ${round}`, random.chance(0.5) ? windows : {});
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
      image.restore();
    }
  } finally {
    image.restore();
    image.close();
  }
}

for (const imageCase of CASES) {
  const seed = seedOf(`check ${imageCase.title}`, BASE_SEED);

  describe(`${imageCase.title} (seed ${seed})`, () => {
    const folder = createMemoryFolder();
    let imagePath: string;

    beforeAll(() => {
      imagePath = makeRandomImage(folder.name, imageCase, seed);
    });
    afterAll(() => folder.removeCallback());

    it('is found as QEMU finds it, and left as it was', () => {
      const sha256 = sha256OfFile(imagePath);
      const status = expectSameCheck(imagePath, 'undamaged');
      if (!imageCase.endsDirty) expect(status).toBe(0);
      expect(sha256OfFile(imagePath)).toBe(sha256);
    });

    it('is found the same in small windows', () => {
      expectSameCheck(imagePath, 'in small windows', smallWindows(imagePath));
    });

    it.each(DAMAGES)('$title: as QEMU finds it', (damage) => {
      compareDamaged(imagePath, damage, seed, DAMAGES_OF_A_KIND);
    });

    it('is as it was when all damage is taken back', () => {
      expectSameCheck(imagePath, 'restored');
    });
  });
}

describe('eight snapshots', () => {
  const folder = createMemoryFolder();
  const seed = seedOf('check eight snapshots', BASE_SEED);
  const imageCase = VERSION_3_CASES.find(({ clusterBytes }) => clusterBytes === 65536) as ImageCase;
  let imagePath: string;

  beforeAll(() => {
    imagePath = makeRandomImage(folder.name, { ...imageCase, diskBytes: 64 * 1024 * 1024 }, seed);
    const random = new Random(seed);
    for (let count = listSnapshots(imagePath).length; count < 8; count++) {
      runQemuIo(imagePath, [`write -q ${random.below(600) * 65536} ${random.length(64) * 4096}`]);
      createSnapshot(imagePath, `more ${count}`);
    }
  });
  afterAll(() => folder.removeCallback());

  it('are found as QEMU finds them', () => {
    expect(listSnapshots(imagePath)).toHaveLength(8);
    expect(expectSameCheck(imagePath, 'eight snapshots')).toBe(0);
  });

  it.each(DAMAGES)('$title: as QEMU finds it', (damage) => {
    compareDamaged(imagePath, damage, seed, 2 * DAMAGES_OF_A_KIND);
  });
});

it('met images of every verdict', () => {
  for (const status of [1, 2, 3]) expect(statuses.get(status), `exit ${status}`).toBeGreaterThan(20);
  expect(checkWithQemu('/dev/null').status).toBe(1);
});
