/** Damaged and hostile metadata: what cannot be told is told, and nothing else is lost. */

import { beforeAll, describe, expect, it } from 'vitest';
import type { Disk } from '../../../src/disk/disk.ts';
import { type ErrorCode, Qcow2fsError } from '../../../src/errors.ts';
import { RawDisk } from '../../../src/raw/raw-disk.ts';
import { BufferStorage } from '../../../src/storage/buffer-storage.ts';
import { isLvmMember, readLvm } from '../../../src/volumes/lvm/lvm.ts';
import {
  createMetadataTexts,
  type MetadataTexts,
  readPhysicalVolume,
} from '../../../src/volumes/lvm/read-physical-volume.ts';
import { lvmChecksum } from '../../../src/volumes/lvm/wire/checksum.ts';
import { Random } from '../../oracle/random.ts';
import { catchError } from '../../support/catch-error.ts';
import {
  AREA_OFFSET,
  areaOffsets,
  checksumOf,
  LABEL_OFFSET,
  makeImage,
  readImage,
  sealArea,
  sealLabel,
  summaryOf,
  textOf,
  withText,
} from './sealed-image.ts';

const ALL = ['one', 'two', 'three'];

let image: Buffer;
let text: string;
let areas: [number, number];

beforeAll(async () => {
  image = await makeImage();
  text = textOf(image, AREA_OFFSET);
  areas = areaOffsets(image);
});

/** A copy of the image with one change. */
function changed(change: (bytes: Buffer) => void): Buffer {
  const copy = Buffer.from(image);
  change(copy);
  return copy;
}

it('checksums are those that lvm2 wrote, and those of zlib', () => {
  const label = image.subarray(LABEL_OFFSET, LABEL_OFFSET + 512);
  expect(lvmChecksum(label.subarray(20))).toBe(label.readUInt32LE(16));
  expect(checksumOf(label.subarray(20))).toBe(label.readUInt32LE(16));
  expect(lvmChecksum(Buffer.from(text, 'latin1'))).toBe(image.readUInt32LE(AREA_OFFSET + 56));
});

it('without damage, both areas are read and nothing is told', () => {
  expect(areas).toEqual([AREA_OFFSET, expect.any(Number)]);
  const result = readImage(image);
  expect(summaryOf(result)).toEqual(ALL);
  expect(result.problems).toEqual([]);
});

describe('a label', () => {
  it.each<[string, (bytes: Buffer) => void, RegExp]>([
    ['with a wrong checksum', (bytes) => bytes.writeUInt8(1, LABEL_OFFSET + 400), /^p1: .*its checksum is wrong$/],
    [
      'for another sector',
      (bytes) => bytes.writeUInt32LE(2, LABEL_OFFSET + 8),
      /^p1: the LVM label in sector 1 is for another sector$/,
    ],
    [
      'whose lists have no end',
      (bytes) => {
        bytes.fill(1, LABEL_OFFSET + 72, LABEL_OFFSET + 512);
        sealLabel(bytes);
      },
      /^p1: .*lists of areas have no end$/,
    ],
    [
      'that begins behind its sector',
      (bytes) => {
        bytes.writeUInt32LE(0xffff_ffff, LABEL_OFFSET + 20);
        sealLabel(bytes);
      },
      /^p1: .*lists of areas have no end$/,
    ],
    [
      'without a UUID',
      (bytes) => {
        bytes.fill(0, LABEL_OFFSET + 32, LABEL_OFFSET + 64);
        sealLabel(bytes);
      },
      /^p1: .* is no UUID$/,
    ],
  ])('%s is told, and still makes a member', (_, change, problem) => {
    const bytes = changed(change);
    expect(isLvmMember(new RawDisk(new BufferStorage(bytes)))).toBe(true);
    const { problems, physicalVolumes, logicalVolumes } = readImage(bytes);
    expect(problems).toEqual([expect.stringMatching(problem)]);
    expect([physicalVolumes, logicalVolumes]).toEqual([[], []]);
  });
});

type AreaDamage = [name: string, damage: (bytes: Buffer, area: number) => void, problem: RegExp, isTextKnown: boolean];

/** Each on one area, or on both; the last says that a text of its size and checksum is known from the other area. */
const AREA_DAMAGES: AreaDamage[] = [
  ['no header', (bytes, area) => bytes.fill(0, area, area + 512), /its header is missing$/, false],
  ['a damaged header', (bytes, area) => bytes.writeUInt8(1, area + 300), /the checksum of its header is wrong$/, false],
  [
    'another version',
    (bytes, area) => {
      bytes.writeUInt32LE(2, area + 20);
      sealArea(bytes, area);
    },
    /its version is 2, which is not known$/,
    false,
  ],
  [
    'the header of another place',
    (bytes, area) => {
      bytes.writeBigUInt64LE(8192n, area + 24);
      sealArea(bytes, area);
    },
    /its header says that it is at offset 8192$/,
    false,
  ],
  [
    'a damaged text',
    (bytes, area) => bytes.writeUInt8(0xff, area + Number(bytes.readBigUInt64LE(area + 40)) + 9),
    /the checksum of its text is wrong$/,
    true,
  ],
  [
    'a text outside of it',
    (bytes, area) => {
      bytes.writeBigUInt64LE(2n ** 64n - 1n, area + 40);
      sealArea(bytes, area);
    },
    /its text .* is not within its \d+ bytes$/,
    true,
  ],
  [
    'a text over its own header',
    (bytes, area) => {
      bytes.writeBigUInt64LE(8n, area + 40);
      sealArea(bytes, area);
    },
    /its text .* is not within its \d+ bytes$/,
    true,
  ],
  [
    'a size and a text that are far too large',
    (bytes, area) => {
      bytes.writeBigUInt64LE(2n ** 63n, area + 32);
      bytes.writeBigUInt64LE(2n ** 62n, area + 48);
      sealArea(bytes, area);
    },
    /its text has \d+ bytes, which is too much to be read$/,
    false,
  ],
  [
    'a text past the end of the disk',
    (bytes, area) => {
      bytes.writeBigUInt64LE(2n ** 40n, area + 32);
      bytes.writeBigUInt64LE(2n ** 23n, area + 48);
      sealArea(bytes, area);
    },
    /go past the end of the disk \(\d+ bytes\)$/,
    false,
  ],
];

describe.each<AreaDamage>(AREA_DAMAGES)('a metadata area with %s', (_, damage, problem, isTextKnown) => {
  it('costs nothing when it is the first of two, and is told', () => {
    const result = readImage(changed((copy) => damage(copy, areas[0])));
    expect(summaryOf(result)).toEqual(ALL);
    expect(result.problems).toEqual([expect.stringMatching(problem)]);
  });

  it('costs nothing when it is the second', () => {
    const result = readImage(changed((copy) => damage(copy, areas[1])));
    expect(summaryOf(result)).toEqual(ALL);
    // A text of the size and the checksum of one that is known is not read again.
    expect(result.problems).toEqual(isTextKnown ? [] : [expect.stringMatching(problem)]);
  });

  it('costs all volumes when both areas are, and is told', () => {
    const bytes = changed((copy) => {
      for (const area of areas) damage(copy, area);
    });
    const result = readImage(bytes);
    expect(summaryOf(result)).toEqual([]);
    expect(result.problems).toEqual([expect.stringMatching(problem), expect.stringMatching(problem)]);
    expect(result.physicalVolumes).toHaveLength(1);
  });
});

it('on a disk that was cut, the volumes that are whole are read', () => {
  const data = image.subarray(0, 1024 * 1024 + 7 * 64 * 1024);
  const result = readImage(data);
  expect(summaryOf(result)).toEqual([
    expect.stringMatching(
      /^one: it goes past the end of the physical volume p1, of which only 1507328 bytes are there$/,
    ),
    'two',
    expect.stringMatching(/^three: it goes past the end/),
  ]);
  expect(result.problems).toEqual([expect.stringMatching(/^p1: the LVM metadata area at offset \d+: .* past the end/)]);
});

/** A disk that fails where `isBad` says so. */
function failingDisk(bytes: Buffer, code: ErrorCode, isBad: (offset: number, length: number) => boolean): Disk {
  const disk = new RawDisk(new BufferStorage(bytes));
  return {
    sizeBytes: disk.sizeBytes,
    extentAt: (...args) => disk.extentAt(...args),
    allocatedBytes: () => disk.allocatedBytes(),
    metadataBytes: () => disk.metadataBytes(),
    readAt: (target, targetOffset, offset, length) => {
      if (isBad(offset, length)) throw new Qcow2fsError(code, `cannot read ${length} bytes at ${offset}`);
      disk.readAt(target, targetOffset, offset, length);
    },
  };
}

describe.each<ErrorCode>(['DAMAGED', 'PAST_END', 'IO'])('a disk that fails with %s', (code) => {
  it('in one metadata area is told, and read by the other', () => {
    const result = readLvm([{ name: 'p1', disk: failingDisk(image, code, (offset) => offset === AREA_OFFSET) }]);
    expect(summaryOf(result)).toEqual(ALL);
    expect(result.problems).toEqual(['p1: the LVM metadata area at offset 4096: cannot read 512 bytes at 4096']);
  });

  it('in the sectors beside the label is read', () => {
    const disk = failingDisk(image, code, (offset) => [0, 1024].includes(offset));
    expect(isLvmMember(disk)).toBe(true);
    expect(summaryOf(readLvm([{ name: 'p1', disk }]))).toEqual(ALL);
  });

  it('in the label is no member, and is told', () => {
    const disk = failingDisk(image, code, (offset) => offset === LABEL_OFFSET);
    expect(isLvmMember(disk)).toBe(false);
    expect(readLvm([{ name: 'p1', disk }]).problems).toEqual(['p1: the LVM label is missing or cannot be read']);
  });
});

it.each<ErrorCode>(['STALE', 'BUSY'])('%s always passes through', (code) => {
  for (const bad of [0, LABEL_OFFSET, AREA_OFFSET, AREA_OFFSET + Number(image.readBigUInt64LE(AREA_OFFSET + 40))]) {
    const disk = failingDisk(image, code, (offset) => offset === bad);
    expect(catchError(() => readLvm([{ name: 'p1', disk }])).code).toBe(code);
  }
  const disk = failingDisk(image, code, (offset) => offset === 1024);
  expect(catchError(() => isLvmMember(disk)).code).toBe(code);
});

it.each<[string, (texts: MetadataTexts) => void, RegExp]>([
  [
    'bytes',
    (texts) => {
      texts.bytesLeft = 100;
    },
    /there is more text in all areas than can be read$/,
  ],
  [
    'items',
    (texts) => {
      texts.budget.itemsLeft = 10;
    },
    /there is more in it than can be read/,
  ],
])('metadata with more %s than all may have together is told', (_, limit, problem) => {
  const [texts, problems]: [MetadataTexts, string[]] = [createMetadataTexts(), []];
  limit(texts);
  const { groups } = readPhysicalVolume('p1', new RawDisk(new BufferStorage(image)), texts, problems);
  expect(groups).toEqual([]);
  expect(problems).toEqual([expect.stringMatching(problem), expect.stringMatching(problem)]);
});

describe('a text', () => {
  /** What is replaced, by what, which volumes are left, and what is told. */
  it.each<[string, string | RegExp, string, string[], RegExp[]]>([
    ['without a name', /^vg/, '', [], [/a name is missing/]],
    ['of no group', /^vg \{/, 'x = 1 y = [', [], [/a number or a string is missing/]],
    ['that ends too early', /\}\s*\n#[\s\S]*$/, '', [], [/a name is missing/]],
    ['whose group has no allowed name', /^vg/, '"a/b"', [], [/"a\/b" is no name that LVM allows/]],
    ['whose group has no UUID', 'id = "', 'id = "x', [], [/is no UUID/]],
    ['without a seqno', 'seqno', 'other', [], [/seqno is missing or no count/]],
    ['with extents of no size', /extent_size = \d+/, 'extent_size = 0', [], [/extent_size is not possible/]],
    [
      'with extents too large',
      /extent_size = \d+/,
      'extent_size = 9007199254740991',
      [],
      [/extent_size is not possible/],
    ],
    ['with a volume twice', '\ntwo {', '\none {', [], [/"one" is there twice/]],
    ['with a name from JavaScript', '\ntwo {', '\n__proto__ {', ['one', '__proto__', 'three'], []],
    [
      'with a name that leads elsewhere',
      '\ntwo {',
      '\n".." {',
      ['one', 'three'],
      [/"\.\." is no name that LVM allows/],
    ],
    [
      'with a number too large',
      'segment_count = 2',
      'segment_count = 99999999999999999999',
      ['two', 'three'],
      [/segment_count is missing/],
    ],
    [
      'with a segment too few',
      'segment_count = 2',
      'segment_count = 3',
      ['two', 'three'],
      [/segment_count is not that/],
    ],
    ['with a gap', 'start_extent = 3', 'start_extent = 4', ['two', 'three'], [/do not follow each other at extent 3/]],
    [
      'with an overlap',
      'start_extent = 3',
      'start_extent = 2',
      ['two', 'three'],
      [/do not follow each other at extent 3/],
    ],
    ['with a segment of nothing', 'extent_count = 2', 'extent_count = 0', ['two', 'three'], [/extent_count is 0/]],
    [
      'with a volume too large',
      'extent_count = 2',
      'extent_count = 9007199254740990',
      ['two', 'three'],
      [/is not possible/],
    ],
    ['with an extent before the first', '"pv0", 0', '"pv0", -1', ['two', 'three'], [/stripes is no list/]],
    ['with a stripe too few', '"pv0", 0', '"pv0"', ['two', 'three'], [/stripes is no list/]],
    [
      'with an extent past the last',
      '"pv0", 0',
      '"pv0", 900',
      ['one: it goes past the last extent of the physical volume p1', 'two', 'three'],
      [],
    ],
    [
      'with an unknown area',
      '"pv0", 0',
      '"pv7", 0',
      ['one: its physical volume "pv7" is not in the group', 'two', 'three'],
      [],
    ],
    [
      'with a status that is not known',
      '"VISIBLE"]\nflags = []\ncreation',
      '"VISIBLE", "NEW"]\nflags = []\ncreation',
      ['one: it has the status NEW', 'two', 'three'],
      [],
    ],
    [
      'with a type of another kind',
      'type = "striped"',
      'type = "striped+NEW"',
      ['one: it is of the type striped+NEW', 'two', 'three'],
      [],
    ],
    ['with the other name of linear', 'type = "striped"', 'type = "linear"', ALL, []],
    [
      'with a start past the disk',
      /pe_start = \d+/,
      'pe_start = 9007199254740',
      ALL.map(
        (name) => `${name}: it goes past the end of the physical volume p1, of which only 4194304 bytes are there`,
      ),
      [],
    ],
  ])('%s', (_, search, replacement, volumes, problems) => {
    const hostile = text.replace(search, replacement);
    expect(hostile).not.toBe(text);
    const result = readImage(withText(image, hostile));
    expect(summaryOf(result)).toEqual(volumes);
    expect([...new Set(result.problems)].length).toBeLessThanOrEqual(2);
    for (const [index, problem] of problems.entries()) expect(result.problems[index]).toMatch(problem);
    if (problems.length === 0) expect(result.problems).toEqual([]);
  });
});

describe('random changes', () => {
  it.each([1, 2, 3, 4])('of the text never give anything outside the disk (seed %i)', (seed) => {
    const random = new Random(seed);
    let shown = 0;
    for (let round = 0; round < 400; round++) {
      shown += readAll(withText(image, mutate(text, random)));
    }
    expect(shown).toBeGreaterThan(0);
  });

  it.each([5, 6])('of the label and the headers never do, with checksums made right (seed %i)', (seed) => {
    const random = new Random(seed);
    for (let round = 0; round < 1000; round++) {
      const bytes = Buffer.from(image);
      const [start, length] = random.pick([[LABEL_OFFSET, 200], ...areas.map((area) => [area, 72])]) as [
        number,
        number,
      ];
      for (let count = random.length(6); count > 0; count--)
        bytes.writeUInt8(random.below(256), start + random.below(length));
      sealLabel(bytes);
      for (const area of areas) sealArea(bytes, area);
      readAll(bytes);
    }
  });
});

/** Reads every byte of every volume, and returns how many volumes there are. */
function readAll(bytes: Buffer): number {
  const { logicalVolumes, problems } = readImage(bytes);
  expect(problems.every((problem) => problem.length < 1000)).toBe(true);
  for (const { disk, unsupported, sizeBytes } of logicalVolumes) {
    expect(disk === undefined).toBe(unsupported !== undefined);
    if (disk === undefined) continue;
    // More than one volume may name the same extents, but none has more than there are.
    expect(sizeBytes).toBeLessThanOrEqual(64 * bytes.length);
    expect(disk.sizeBytes).toBe(sizeBytes);
    for (let at = 0; at < sizeBytes; at += 2 ** 20) {
      const length = Math.min(2 ** 20, sizeBytes - at);
      disk.readAt(Buffer.alloc(length), 0, at, length);
    }
  }
  return logicalVolumes.length;
}

const HOSTILE_PIECES = [
  ...[
    '{',
    '}',
    '[',
    ']',
    ',',
    '=',
    '"',
    "'",
    '#',
    '\\',
    '\0',
    '\n',
    '-1',
    '0',
    '18446744073709551615',
    '9007199254740991',
  ],
  ...[
    '1e9',
    '__proto__ = 1',
    'stripes = []',
    'x { }',
    '"pv0", 0,',
    '"\\"',
    'segment9 { start_extent = 5 extent_count = 1 }',
  ],
];

function mutate(source: string, random: Random): string {
  let mutated = source;
  for (let count = random.length(4); count > 0; count--) {
    const at = random.below(mutated.length);
    const length = random.chance(0.5) ? 0 : random.length(60);
    const piece = random.chance(0.5)
      ? random.pick(HOSTILE_PIECES)
      : mutated.slice(random.below(mutated.length)).slice(0, random.length(80));
    // Half of the time a whole number is what is changed.
    const number = /\d+/g;
    number.lastIndex = at;
    const found = random.chance(0.5) ? number.exec(mutated) : null;
    const [start, end] = found ? [found.index, found.index + found[0].length] : [at, at + length];
    mutated =
      mutated.slice(0, start) +
      (found ? String(random.below(random.pick([4, 100, 2 ** 31]))) : piece) +
      mutated.slice(end);
  }
  return mutated;
}
