/** Superblocks that somebody changed, and disks that cannot be read. */

import fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { Disk, Extent } from '../../../src/disk/disk.ts';
import { type ErrorCode, Qcow2fsError } from '../../../src/errors.ts';
import { RawDisk } from '../../../src/raw/raw-disk.ts';
import { FileStorage, openFile } from '../../../src/storage/file-storage.ts';
import { probeFileSystem } from '../../../src/volumes/file-systems/probe-file-system.ts';
import { Random, seedOf } from '../../oracle/random.ts';
import { catchError } from '../../support/catch-error.ts';
import { withTemporaryFolder } from '../../support/temporary-folder.ts';
import { follow, RECIPES, type Recipe } from './recipes.ts';

const ROUNDS = 80;
/** Above what any probe reads: 2 MiB of an XFS log, 2 MiB of a root directory, and superblocks. */
const MAX_READ_BYTES = 8 * 1024 * 1024;
/** One recipe of each type, and every third of all. */
const SAMPLES: readonly Recipe[] = RECIPES.filter(
  (recipe, index) => index === RECIPES.findIndex(({ type }) => type === recipe.type) || index % 3 === 0,
);

interface Range {
  readonly offset: number;
  readonly length: number;
}

/** A disk with some bytes changed, or with places that fail; says what was read. */
class TamperedDisk implements Disk {
  readonly sizeBytes: number;
  readonly reads: Range[] = [];
  readonly #disk: Disk;
  readonly #changes: ReadonlyMap<number, number>;
  readonly #fail: (range: Range) => ErrorCode | undefined;

  constructor(
    disk: Disk,
    changes: ReadonlyMap<number, number> = new Map(),
    fail: (range: Range) => ErrorCode | undefined = () => undefined,
    sizeBytes = disk.sizeBytes,
  ) {
    this.#disk = disk;
    this.#changes = changes;
    this.#fail = fail;
    this.sizeBytes = sizeBytes;
  }

  get readBytes(): number {
    return this.reads.reduce((sum, { length }) => sum + length, 0);
  }

  readAt(target: Buffer, targetOffset: number, offset: number, length: number): void {
    expect(offset).toBeGreaterThanOrEqual(0);
    expect(offset + length).toBeLessThanOrEqual(this.sizeBytes);
    this.reads.push({ offset, length });
    const code = this.#fail({ offset, length });
    if (code !== undefined) throw new Qcow2fsError(code, `no bytes at ${offset}`);
    this.#disk.readAt(target, targetOffset, offset, length);
    for (const [position, value] of this.#changes) {
      if (position >= offset && position < offset + length) target[targetOffset + position - offset] = value;
    }
  }

  extentAt(offset: number, maxLengthBytes: number, into: Extent): void {
    this.#disk.extentAt(offset, maxLengthBytes, into);
  }

  allocatedBytes(): number {
    return this.sizeBytes;
  }

  metadataBytes(): number {
    return 0;
  }
}

function withRecipe(recipe: Recipe, body: (disk: Disk) => void): Promise<void> {
  return withTemporaryFolder((folder) => {
    const opened = openFile(follow(recipe, folder));
    try {
      body(new RawDisk(new FileStorage(opened)));
    } finally {
      fs.closeSync(opened.fd);
    }
  });
}

/** Probes, and checks what holds for any disk. */
function probeBounded(disk: TamperedDisk): void {
  const probe = probeFileSystem(disk);
  expect(disk.readBytes).toBeLessThan(MAX_READ_BYTES);
  if (probe?.sizeBytes !== undefined) expect(Number.isSafeInteger(probe.sizeBytes) && probe.sizeBytes >= 0).toBe(true);
  if (probe?.label !== undefined) expect(probe.label.length).toBeGreaterThan(0);
}

describe.each(SAMPLES)('$title', (recipe) => {
  it('with bytes changed where the probes look is probed without harm', () =>
    withRecipe(recipe, (disk) => {
      const clean = new TamperedDisk(disk);
      expect(probeFileSystem(clean)?.type).toBe(recipe.type);
      const random = new Random(seedOf(recipe.title, 1));
      for (let round = 0; round < ROUNDS; round++) {
        const changes = new Map<number, number>();
        for (let count = random.length(16); count > 0; count--) {
          const { offset, length } = random.pick(clean.reads);
          // Half of them in the fields at the beginning.
          const within = random.below(random.chance(0.5) ? Math.min(length, 128) : length);
          changes.set(offset + within, random.chance(0.3) ? random.pick([0, 0xff, 0x7f, 0x80]) : random.below(256));
        }
        probeBounded(new TamperedDisk(disk, changes));
      }
    }));

  it('that ends anywhere is probed without harm', () =>
    withRecipe(recipe, (disk) => {
      const random = new Random(seedOf(recipe.title, 2));
      for (let round = 0; round < ROUNDS; round++) {
        const sizeBytes = random.below(disk.sizeBytes) >>> random.below(16);
        probeBounded(new TamperedDisk(disk, new Map(), undefined, sizeBytes));
      }
    }));

  it.each(['DAMAGED', 'PAST_END', 'IO'] as const)('with one place that is %s is told as well as it can be', (code) =>
    withRecipe(recipe, (disk) => {
      const clean = new TamperedDisk(disk);
      probeFileSystem(clean);
      const places = new Map(clean.reads.map((range) => [`${range.offset} ${range.length}`, range]));
      for (const place of [...places.values()].slice(0, ROUNDS)) {
        const fails = ({ offset, length }: Range) => offset === place.offset && length === place.length;
        const problems: Qcow2fsError[] = [];
        const probe = probeFileSystem(
          new TamperedDisk(disk, undefined, (range) => (fails(range) ? code : undefined)),
          (problem) => problems.push(problem),
        );
        // Where it fails decides whether the type, only a part of it, or another type is what cannot be told.
        expect(problems.map((problem) => problem.code)).toEqual([code]);
        expect([recipe.type, undefined]).toContain(probe?.type);
      }
    }),
  );

  it.each(['STALE', 'BUSY', 'LOCKED'] as const)('of an image that is %s fails with that', (code) =>
    withRecipe(recipe, (disk) => {
      const clean = new TamperedDisk(disk);
      probeFileSystem(clean);
      const last = clean.reads.at(-1);
      const failing = new TamperedDisk(disk, undefined, ({ offset }) => (offset === last?.offset ? code : undefined));
      expect(catchError(() => probeFileSystem(failing)).code).toBe(code);
    }),
  );
});

describe('a FAT32 whose root directory runs in a circle', () => {
  it('is read up to the longest directory that there can be', () =>
    withRecipe(RECIPES.find(({ title }) => title.includes('mkfs.vfat -F 32 -s 1')) as Recipe, (disk) => {
      const boot = Buffer.alloc(512);
      disk.readAt(boot, 0, 0, 512);
      const fat = boot.readUInt16LE(14) * 512;
      const root = fat + boot.readUInt32LE(36) * 512;
      const changes = new Map<number, number>();
      // Cluster 2 is followed by itself, and has 16 ordinary files.
      changes
        .set(fat + 8, 2)
        .set(fat + 9, 0)
        .set(fat + 10, 0)
        .set(fat + 11, 0);
      for (let entry = 0; entry < 16; entry++) changes.set(root + entry * 32, 0x41).set(root + entry * 32 + 11, 0x20);
      const tampered = new TamperedDisk(disk, changes);
      expect(probeFileSystem(tampered)).toMatchObject({ type: 'vfat', label: undefined });
      expect(tampered.readBytes).toBeGreaterThan(2 * 1024 * 1024);
      expect(tampered.readBytes).toBeLessThan(MAX_READ_BYTES);
    }));
});
