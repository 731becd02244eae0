/** Ways to damage an image, each with random places. */

import { COMPRESSED, COPIED, type DamagedImage, offsetOf, withOffset } from './damaged-image.ts';
import type { Random } from './random.ts';

export interface Damage {
  readonly title: string;
  /** Returns false if the image has nothing that could be damaged so. */
  readonly apply: (image: DamagedImage, random: Random) => boolean;
}

/** Changes the offset of a random entry. */
function redirect(
  title: string,
  kind: 'l1Entries' | 'dataEntries',
  target: (image: DamagedImage, random: Random, offset: number) => number | undefined,
): Damage {
  return {
    title,
    apply: (image, random) => {
      const entries = image[kind];
      if (entries.length === 0) return false;
      const { position, value } = random.pick(entries);
      const offset = target(image, random, offsetOf(value));
      if (offset === undefined) return false;
      image.writeU64(position, withOffset(value, offset));
      return true;
    },
  };
}

/** Flips bits of a random entry. */
function flip(
  title: string,
  kind: 'l1Entries' | 'l2Entries' | 'dataEntries',
  bits: (random: Random) => bigint,
): Damage {
  return {
    title,
    apply: (image, random) => {
      const entries = image[kind];
      if (entries.length === 0) return false;
      const { position, value } = random.pick(entries);
      image.writeU64(position, value ^ bits(random));
      return true;
    },
  };
}

const refcounts: readonly Damage[] = [
  {
    title: 'refcounts that are too high',
    apply: (image, random) => {
      const max = (1n << BigInt(image.refcountBits)) - 1n;
      const clusters = image.countedClusters(0n).filter((cluster) => image.refcountOf(cluster) < max);
      if (clusters.length === 0) return false;
      for (let count = 0; count < 3; count++) {
        const cluster = random.pick(clusters);
        if (image.refcountOf(cluster) < max) image.setRefcount(cluster, image.refcountOf(cluster) + 1n);
      }
      return true;
    },
  },
  {
    title: 'the highest refcount that there is',
    apply: (image, random) => {
      const cluster = random.pick(image.countedClusters(0n));
      image.setRefcount(cluster, (1n << BigInt(image.refcountBits)) - 1n);
      return true;
    },
  },
  {
    title: 'refcounts that are too low',
    apply: (image, random) => {
      for (let count = 0; count < 3; count++) {
        const cluster = random.pick(image.countedClusters(1n));
        image.setRefcount(cluster, image.refcountOf(cluster) - 1n);
      }
      return true;
    },
  },
  {
    title: 'refcounts of zero',
    apply: (image, random) => {
      image.setRefcount(random.pick(image.countedClusters(1n)), 0n);
      return true;
    },
  },
];

const l2: readonly Damage[] = [
  redirect('a cluster that is used twice', 'dataEntries', (image, random, offset) => {
    const others = image.dataEntries.map(({ value }) => offsetOf(value)).filter((other) => other !== offset);
    return others.length === 0 ? undefined : random.pick(others);
  }),
  redirect('a cluster in the L1 table', 'dataEntries', (image) => Number(image.u64(40))),
  redirect('a cluster in the refcount table', 'dataEntries', (image) => Number(image.u64(48))),
  redirect('a cluster in a refcount block', 'dataEntries', (image, random) => random.pick(image.refcountBlockOffsets)),
  redirect('a cluster in an L2 table', 'dataEntries', (image, random) => offsetOf(random.pick(image.l1Entries).value)),
  redirect('a cluster in the snapshot table', 'dataEntries', (image) => Number(image.u64(64)) || undefined),
  redirect('a cluster that is free', 'dataEntries', (image, random) => {
    const free = image.countedClusters(0n).filter((cluster) => image.refcountOf(cluster) === 0n);
    return free.length === 0 ? undefined : random.pick(free) * image.clusterBytes;
  }),
  redirect('a cluster just past the end', 'dataEntries', (image) => image.clusterCount * image.clusterBytes),
  redirect('a cluster far past the end', 'dataEntries', (image, random) => {
    return (image.clusterCount + random.length(1e9)) * image.clusterBytes;
  }),
  redirect('a cluster that is not aligned', 'dataEntries', (image, _random, offset) => {
    return image.clusterBytes === 512 ? undefined : offset + 512;
  }),
  redirect('an allocated cluster at offset zero', 'dataEntries', () => 0),
  flip('a flag "refcount is one" of an L2 entry', 'l2Entries', () => COPIED),
  flip('reserved bits of an L2 entry', 'l2Entries', (random) => 1n << BigInt(random.pick([1, 4, 8, 57, 61]))),
  flip('a zero flag of an L2 entry', 'dataEntries', () => 1n),
  flip('a compressed flag', 'l2Entries', () => COMPRESSED),
  {
    title: 'a subcluster bitmap',
    apply: (image, random) => {
      if (image.entryBytes !== 16 || image.l2Entries.length === 0) return false;
      const { position } = random.pick(image.l2Entries);
      image.writeU64(position + 8, BigInt(Math.floor(random.fraction() * 2 ** 53)) << BigInt(random.below(12)));
      return true;
    },
  },
];

const l1: readonly Damage[] = [
  {
    title: 'an L1 entry that is gone',
    apply: (image, random) => {
      if (image.l1Entries.length === 0) return false;
      image.writeU64(random.pick(image.l1Entries).position, 0n);
      return true;
    },
  },
  redirect('an L2 table that is used twice', 'l1Entries', (image, random, offset) => {
    const others = image.l1Entries.map(({ value }) => offsetOf(value)).filter((other) => other !== offset);
    return others.length === 0 ? undefined : random.pick(others);
  }),
  redirect('an L2 table in the data', 'l1Entries', (image, random) => {
    return image.dataEntries.length === 0 ? undefined : offsetOf(random.pick(image.dataEntries).value);
  }),
  redirect('an L2 table in the L1 table', 'l1Entries', (image) => Number(image.u64(40))),
  redirect('an L2 table past the end', 'l1Entries', (image, random) => {
    return (image.clusterCount + random.length(1e9)) * image.clusterBytes;
  }),
  redirect('an L2 table that is not aligned', 'l1Entries', (image, _random, offset) => {
    return image.clusterBytes === 512 ? undefined : offset + 512;
  }),
  redirect('an L1 entry without an offset', 'l1Entries', () => 0),
  flip('a flag "refcount is one" of an L1 entry', 'l1Entries', () => COPIED),
  flip('reserved bits of an L1 entry', 'l1Entries', (random) => 1n << BigInt(random.pick([0, 3, 8, 56, 62]))),
];

const refcountTable: readonly Damage[] = [
  ['a refcount block that is gone', () => 0n],
  ['a refcount block past the end', (image: DamagedImage) => BigInt((image.clusterCount + 7) * image.clusterBytes)],
  ['a refcount block in the L1 table', (image: DamagedImage) => image.u64(40)],
  ['a refcount table entry with reserved bits', (_image: DamagedImage, value: bigint) => value | 4n],
  ['a refcount block that is not aligned', (_image: DamagedImage, value: bigint) => value + 512n],
].map(([title, target]) => ({
  title: title as string,
  apply: (image, random) => {
    const { position, value } = random.pick(image.refcountTableEntries);
    image.writeU64(position, (target as (image: DamagedImage, value: bigint) => bigint)(image, value));
    return true;
  },
}));

const snapshots: readonly Damage[] = [
  ['a snapshot that is forgotten', (image: DamagedImage) => image.writeU32(60, image.u32(60) - 1)],
  ['a snapshot too many', (image: DamagedImage) => image.writeU32(60, image.u32(60) + 1)],
  [
    'a snapshot table past the end',
    (image: DamagedImage) => image.writeU64(64, BigInt(image.clusterCount + 9) * BigInt(image.clusterBytes)),
  ],
  [
    'a snapshot L1 table past the end',
    (image: DamagedImage) =>
      image.writeU64(Number(image.u64(64)), BigInt(image.clusterCount + 9) * BigInt(image.clusterBytes)),
  ],
  [
    'a snapshot L1 table that is not aligned',
    (image: DamagedImage) => image.writeU64(Number(image.u64(64)), image.u64(Number(image.u64(64))) + 8n),
  ],
  [
    'a snapshot L1 table that is too large',
    (image: DamagedImage) => image.writeU32(Number(image.u64(64)) + 8, 0x40_0001),
  ],
  [
    'a snapshot L1 table that is the one of the current state',
    (image: DamagedImage) => image.writeU64(Number(image.u64(64)), image.u64(40)),
  ],
].map(([title, change]) => ({
  title: title as string,
  apply: (image) => {
    if (image.u32(60) === 0) return false;
    (change as (image: DamagedImage) => void)(image);
    return true;
  },
}));

const blind: readonly Damage[] = [
  {
    title: 'random bytes in tables',
    apply: (image, random) => {
      const positions = Array.from({ length: 6 }, () => image.randomMetadataPosition(random));
      for (const position of positions) image.write(position, random.bytes(1));
      return true;
    },
  },
  {
    title: 'random clusters in tables',
    apply: (image, random) => {
      const position = image.randomMetadataPosition(random);
      image.write(position, random.bytes(Math.min(64, image.sizeBytes - position)));
      return true;
    },
  },
];

const cuts: readonly Damage[] = [0.3, 0.7, 0.95].map((part) => ({
  title: `a file that is cut at ${part}`,
  apply: (image, random) => {
    image.truncate(Math.max(image.clusterBytes * 2, Math.floor(image.sizeBytes * part) - random.below(1000)));
    return true;
  },
}));

export const DAMAGES: readonly Damage[] = [
  ...refcounts,
  ...l2,
  ...l1,
  ...refcountTable,
  ...snapshots,
  ...blind,
  ...cuts,
];
