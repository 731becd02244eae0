/** The kinds of images that are compared with QEMU: versions, cluster sizes and features, each with each. */

const KIB = 1024;
const MIB = 1024 * KIB;

export interface BackingCase {
  readonly title: string;
  readonly format: 'qcow2' | 'raw';
  readonly sizeBytes: number;
  /** Another qcow2 file below it. */
  readonly isChain?: boolean;
}

export interface ImageCase {
  readonly title: string;
  readonly version: 2 | 3;
  readonly clusterBytes: number;
  readonly diskBytes: number;
  /** `-o` options beside version and cluster size. */
  readonly options: readonly string[];
  readonly backing: BackingCase | undefined;
  readonly writesCompressed: boolean;
  readonly maxSnapshotCount: number;
  /** Left as after a power cut. */
  readonly endsDirty: boolean;
}

const CLUSTER_BYTES = [512, 4 * KIB, 64 * KIB, 2 * MIB] as const;

/** The last cluster is a partial one, except for the smallest, which are as small as the unit of a disk size. */
function diskBytesFor(clusterBytes: number): number {
  if (clusterBytes <= 512) return 2 * MIB + 1536;
  if (clusterBytes <= 4 * KIB) return 5 * MIB + 1536;
  if (clusterBytes <= 64 * KIB) return 8 * MIB + 1536;
  return 12 * MIB + 1536;
}

function imageCase(
  version: 2 | 3,
  clusterBytes: number,
  feature: string,
  more: Partial<Omit<ImageCase, 'title' | 'version' | 'clusterBytes'>> = {},
): ImageCase {
  return {
    title: `version ${version}, clusters of ${clusterBytes}, ${feature}`,
    version,
    clusterBytes,
    diskBytes: diskBytesFor(clusterBytes),
    options: [],
    backing: undefined,
    writesCompressed: true,
    maxSnapshotCount: 4,
    endsDirty: false,
    ...more,
  };
}

function backingCases(diskBytes: number): BackingCase[] {
  const half = Math.floor(diskBytes / 1024) * 512;
  return [
    { title: 'a shorter qcow2 backing file', format: 'qcow2', sizeBytes: half },
    { title: 'a longer qcow2 backing file', format: 'qcow2', sizeBytes: diskBytes + half },
    { title: 'a shorter raw backing file', format: 'raw', sizeBytes: half },
    { title: 'a longer raw backing file', format: 'raw', sizeBytes: diskBytes + half },
    { title: 'an oddly sized raw backing file', format: 'raw', sizeBytes: half + 357 },
  ];
}

export const VERSION_2_CASES: readonly ImageCase[] = CLUSTER_BYTES.map((clusterBytes) =>
  imageCase(2, clusterBytes, 'zlib'),
);

export const VERSION_3_CASES: readonly ImageCase[] = [
  ...CLUSTER_BYTES.flatMap((clusterBytes) => [
    imageCase(3, clusterBytes, 'zlib'),
    imageCase(3, clusterBytes, 'zstd', { options: ['compression_type=zstd'] }),
    imageCase(3, clusterBytes, 'lazy refcounts', { options: ['lazy_refcounts=on'], endsDirty: true }),
  ]),
  ...[16 * KIB, 64 * KIB, 2 * MIB].flatMap((clusterBytes) => [
    imageCase(3, clusterBytes, 'extended L2', { options: ['extended_l2=on'] }),
    imageCase(3, clusterBytes, 'extended L2 and zstd', { options: ['extended_l2=on', 'compression_type=zstd'] }),
  ]),
];

export const BACKING_CASES: readonly ImageCase[] = ([2, 3] as const).flatMap((version) =>
  CLUSTER_BYTES.flatMap((clusterBytes) =>
    backingCases(diskBytesFor(clusterBytes)).map((backing) =>
      imageCase(version, clusterBytes, backing.title, { backing }),
    ),
  ),
);

export const UNUSUAL_CASES: readonly ImageCase[] = [
  ...[64 * KIB, 2 * MIB].flatMap((clusterBytes) =>
    backingCases(diskBytesFor(clusterBytes)).map((backing) =>
      imageCase(3, clusterBytes, `extended L2 and ${backing.title}`, { backing, options: ['extended_l2=on'] }),
    ),
  ),
  imageCase(3, 4 * KIB, 'a chain of two backing files', {
    backing: { title: 'a chain', format: 'qcow2', sizeBytes: 3 * MIB, isChain: true },
  }),
  imageCase(3, 64 * KIB, 'refcounts of 1 bit', { options: ['refcount_bits=1'], maxSnapshotCount: 0 }),
  // Three references at most: the current state, one snapshot, and one more while that is applied. Compressed clusters
  // that share a cluster of the file would need more.
  imageCase(3, 4 * KIB, 'refcounts of 2 bits', {
    options: ['refcount_bits=2'],
    maxSnapshotCount: 1,
    writesCompressed: false,
  }),
  imageCase(3, 64 * KIB, 'refcounts of 64 bits', { options: ['refcount_bits=64'] }),
  imageCase(3, 64 * KIB, 'preallocated metadata', { options: ['preallocation=metadata'], writesCompressed: false }),
  imageCase(3, 8 * KIB, 'zlib'),
  imageCase(2, 32 * KIB, 'zlib'),
  imageCase(3, 1 * MIB, 'zstd', { options: ['compression_type=zstd'] }),
];

/** Of the backing files below clusters of 2 MiB: all five would take as long as all the other cases together. */
const LARGE_MOUNTED = /a longer qcow2|an oddly sized raw/;

/** One case for each way in which bytes come to the reader: they are mounted too. */
export const MOUNTED_CASES: readonly ImageCase[] = [
  ...VERSION_2_CASES.filter(({ clusterBytes }) => clusterBytes === 64 * KIB),
  ...VERSION_3_CASES.filter(({ clusterBytes }) => clusterBytes === 512 || clusterBytes === 16 * KIB),
  ...BACKING_CASES.filter(({ clusterBytes, version }) => clusterBytes === 4 * KIB && version === 3),
  ...UNUSUAL_CASES.filter(({ backing, clusterBytes, options }) =>
    clusterBytes === 2 * MIB ? LARGE_MOUNTED.test(backing?.title ?? '') : options.includes('refcount_bits=1'),
  ),
  ...UNUSUAL_CASES.filter(({ backing }) => backing?.isChain),
];
