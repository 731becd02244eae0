import { expect, test } from 'vitest';
import type { Disk, Extent } from '../../../src/disk/disk.ts';
import { ClusterRuns } from '../../../src/qcow2/write/cluster-runs.ts';

const CLUSTER_BYTES = 64;

type Part = Pick<Extent, 'kind' | 'lengthBytes'> & Partial<Extent>;

/** A disk that is nothing but its extents. */
class ExtentDisk implements Disk {
  readonly sizeBytes: number;
  readonly #parts: readonly Part[];
  lookupCount = 0;

  constructor(parts: readonly Part[]) {
    this.#parts = parts;
    this.sizeBytes = parts.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
  }

  extentAt(offset: number, maxLengthBytes: number, into: Extent): void {
    this.lookupCount += 1;
    let start = 0;
    for (const { kind, lengthBytes, hostOffset = -1, depth = 0 } of this.#parts) {
      if (offset < start + lengthBytes) {
        const within = offset - start;
        const host = hostOffset < 0 ? hostOffset : hostOffset + within;
        Object.assign(into, {
          ...{ kind, depth, hostOffset: host },
          lengthBytes: Math.min(maxLengthBytes, lengthBytes - within),
        });
        return;
      }
      start += lengthBytes;
    }
    throw new Error(`offset ${offset} is not on the disk`);
  }

  readAt(): void {
    throw new Error('no bytes are read for this');
  }

  allocatedBytes(): number {
    return this.sizeBytes;
  }

  metadataBytes(): number {
    return 0;
  }
}

/** All runs, such as `compare 128`. */
function runsOf(view: readonly Part[], below?: readonly Part[], maxReadBytes = 1024): string[] {
  const disk = new ExtentDisk(view);
  const runs = new ClusterRuns(disk, below && new ExtentDisk(below), CLUSTER_BYTES, maxReadBytes);
  const run = { task: 'nothing' as const, lengthBytes: 0 };
  const found: string[] = [];
  for (let offset = 0; offset < disk.sizeBytes; offset += run.lengthBytes) {
    runs.next(offset, run);
    found.push(`${run.task} ${run.lengthBytes}`);
  }
  return found;
}

test.each<[string, Part, Part, string]>([
  ['holes', { kind: 'hole', lengthBytes: 64 }, { kind: 'hole', lengthBytes: 64 }, 'nothing'],
  ['a hole over zeros', { kind: 'hole', lengthBytes: 64 }, { kind: 'zero', lengthBytes: 64, depth: 1 }, 'nothing'],
  ['zeros over data', { kind: 'zero', lengthBytes: 64 }, { kind: 'data', lengthBytes: 64, hostOffset: 0 }, 'zeros'],
  ['zeros over damage', { kind: 'zero', lengthBytes: 64 }, { kind: 'damaged', lengthBytes: 64 }, 'zeros'],
  ['data over a hole', { kind: 'data', lengthBytes: 64, hostOffset: 0 }, { kind: 'hole', lengthBytes: 64 }, 'data'],
  [
    'one cluster',
    { kind: 'data', lengthBytes: 64, hostOffset: 9 },
    { kind: 'data', lengthBytes: 64, hostOffset: 9 },
    'nothing',
  ],
  [
    'two clusters',
    { kind: 'data', lengthBytes: 64, hostOffset: 9 },
    { kind: 'data', lengthBytes: 64, hostOffset: 8 },
    'compare',
  ],
  ['bytes without a place', { kind: 'data', lengthBytes: 64 }, { kind: 'data', lengthBytes: 64 }, 'compare'],
  ['compressed clusters', { kind: 'compressed', lengthBytes: 64 }, { kind: 'compressed', lengthBytes: 64 }, 'compare'],
  [
    'the backing file',
    { kind: 'data', lengthBytes: 64, depth: 1 },
    { kind: 'data', lengthBytes: 64, depth: 1 },
    'nothing',
  ],
  [
    'two layers',
    { kind: 'data', lengthBytes: 64, hostOffset: 0, depth: 1 },
    { kind: 'data', lengthBytes: 64, hostOffset: 0 },
    'compare',
  ],
  ['damage', { kind: 'damaged', lengthBytes: 64, depth: 1 }, { kind: 'damaged', lengthBytes: 64, depth: 1 }, 'compare'],
])('%s', (_, view, below, task) => {
  expect(runsOf([view], [below])).toEqual([`${task} 64`]);
});

test('the place counts at each offset, not where the extent begins', () => {
  const view: Part[] = [{ kind: 'data', lengthBytes: 256, hostOffset: 1000 }];
  const below: Part[] = [
    { kind: 'data', lengthBytes: 64, hostOffset: 5000 },
    { kind: 'data', lengthBytes: 192, hostOffset: 1064 },
  ];
  expect(runsOf(view, below)).toEqual(['compare 64', 'nothing 192']);
});

test('a cluster of several extents is one run: compared over something, data over nothing', () => {
  const view: Part[] = [
    { kind: 'hole', lengthBytes: 16 },
    { kind: 'data', lengthBytes: 16, hostOffset: 0 },
    { kind: 'zero', lengthBytes: 96 },
  ];
  expect(runsOf(view)).toEqual(['data 64', 'nothing 64']);
  expect(runsOf(view, [{ kind: 'hole', lengthBytes: 128 }])).toEqual(['compare 64', 'nothing 64']);
});

test('small extents are read together, up to a limit', () => {
  const view = Array.from(
    { length: 40 },
    (_, index): Part => ({ kind: 'data', lengthBytes: 32, hostOffset: index * 99 }),
  );
  expect(runsOf(view, undefined, 512)).toEqual(['data 512', 'data 512', 'data 256']);
});

test('behind the end of what is below are zeros; the last cluster may be cut', () => {
  const view: Part[] = [{ kind: 'data', lengthBytes: 200, hostOffset: 0 }];
  expect(runsOf(view, [{ kind: 'data', lengthBytes: 96, hostOffset: 0 }])).toEqual([
    'nothing 64',
    'compare 64',
    'data 72',
  ]);
});

test('each extent is looked up once, however many there are of the other disk', () => {
  const view = new ExtentDisk([{ kind: 'data', lengthBytes: 6400, hostOffset: 0 }]);
  const below = new ExtentDisk(
    Array.from({ length: 100 }, (_, index): Part => ({ kind: 'data', lengthBytes: 64, hostOffset: 9000 + index * 99 })),
  );
  const runs = new ClusterRuns(view, below, CLUSTER_BYTES, CLUSTER_BYTES);
  const run = { task: 'nothing' as const, lengthBytes: 0 };
  for (let offset = 0; offset < view.sizeBytes; offset += run.lengthBytes) runs.next(offset, run);
  expect([view.lookupCount, below.lookupCount]).toEqual([1, 100]);
});
