import { expect, test } from 'vitest';
import { openQcow2 } from '../../src/qcow2/open-qcow2.ts';
import { readSnapshotTable, Snapshots, type SnapshotTable } from '../../src/qcow2/snapshots.ts';
import { BufferStorage } from '../../src/storage/buffer-storage.ts';
import { buildImage, encodeHeader, encodeSnapshotEntry, u64 } from '../fixtures/image-builder.ts';

const TABLE = 5 << 16;

function readTable(entries: readonly Buffer[], { count = entries.length, lengthBytes = 1 << 20, offset = TABLE } = {}) {
  const header = encodeHeader({ snapshotCount: count, snapshotsOffset: BigInt(offset) });
  const image = buildImage(1 << 20, [
    [0, header],
    [TABLE, Buffer.concat(entries)],
  ]);
  return show(readSnapshotTable(openQcow2(new BufferStorage(image.subarray(0, lengthBytes)))));
}

function show({ memory, problems }: SnapshotTable) {
  return { snapshots: [...new Snapshots(memory)], problems, memory };
}

const names = ({ snapshots }: ReturnType<typeof readTable>) => snapshots.map(({ entry }) => entry.name);

test('entries are read in their order, each with its place in the table', () => {
  const table = readTable(['a', 'bcd', ''].map((name) => encodeSnapshotEntry({ name })));
  expect(names(table)).toEqual(['a', 'bcd', '']);
  expect(table.snapshots.map(({ index }) => index)).toEqual([0, 1, 2]);
  expect(table.problems).toEqual([]);
});

test('a snapshot has its own size, rounded down to a sector; without one, the current size', () => {
  const own = Buffer.concat([u64(0n), u64((64n << 20n) + 511n)]);
  const table = readTable([encodeSnapshotEntry({ extra: own }), encodeSnapshotEntry({ extra: u64(0n) })]);
  expect(table.snapshots.map(({ sizeBytes }) => sizeBytes)).toEqual([64 << 20, 1 << 20]);
});

test.each([
  [
    'an L1 table that is not aligned',
    { l1TableOffset: 3n * 65536n + 512n },
    'L1 table offset 197120 is not cluster aligned',
  ],
  ['an L1 table above 32 MiB', { l1Size: 4 * 1024 * 1024 + 1 }, 'more than 32 MiB'],
  ['a disk size above 2^53', { extra: Buffer.concat([u64(0n), u64(1n << 60n)]) }, 'snapshot field disk_size'],
])('%s costs that snapshot and no other', (_, fields, problem) => {
  const table = readTable([
    encodeSnapshotEntry({ name: 'a' }),
    encodeSnapshotEntry({ ...fields, name: 'bad' }),
    encodeSnapshotEntry({ name: 'c' }),
  ]);
  expect(names(table)).toEqual(['a', 'c']);
  expect(table.problems).toHaveLength(1);
  expect(table.problems[0]).toContain('snapshot table entry 1 at offset');
  expect(table.problems[0]).toContain(problem);
});

test('too much extra data hides the entries from there on, and says so', () => {
  const table = readTable([
    encodeSnapshotEntry({ name: 'a' }),
    encodeSnapshotEntry({ name: 'bad', extra: Buffer.alloc(1025) }),
    encodeSnapshotEntry({ name: 'c' }),
  ]);
  expect(names(table)).toEqual(['a']);
  expect(table.problems[0]).toContain('1025 bytes');
});

test('a table that the end of the file cuts has no ghost entries', () => {
  const entries = [encodeSnapshotEntry({ name: 'a' }), encodeSnapshotEntry({ name: 'b' })];
  const table = readTable(entries, { lengthBytes: TABLE + 48 + 20 });
  expect(names(table)).toEqual(['a']);
  expect(table.problems[0]).toContain('past the end of the file');
});

test('an offset of the table that is not aligned leaves no snapshots, and a problem', () => {
  const table = readTable([encodeSnapshotEntry({ name: 'a' })], { offset: TABLE + 512 });
  expect(table.snapshots).toEqual([]);
  expect(table.problems[0]).toContain('not cluster aligned');
});

test.each([3, 100, 65537])('a table with two entries ends with them, also when the header counts %i', (count) => {
  const table = readTable([encodeSnapshotEntry({ name: 'a' }), encodeSnapshotEntry({ name: 'b' })], { count });
  expect(names(table)).toEqual(['a', 'b']);
  const told = `snapshot table entry 2 at offset ${TABLE + 96}: it is empty`;
  expect(table.problems.at(-1)).toContain(told);
  expect(table.problems.filter((problem) => problem.includes('nb_snapshots is 65537'))).toHaveLength(
    count === 65537 ? 1 : 0,
  );
});

// QEMU gives a snapshot of an empty disk an L1 table of no entries at offset 0.
test('a snapshot without L1 entries is one, if it has an id', () => {
  const table = readTable([encodeSnapshotEntry({ l1TableOffset: 0n, l1Size: 0 })]);
  expect(names(table)).toEqual(['monday']);
  expect(table.problems).toEqual([]);
});

test('names are shown as long as all of them are not too long, and the rest is told', () => {
  const entries = Array.from({ length: 60 }, () => encodeSnapshotEntry({ name: 'n'.repeat(65535) }));
  const header = encodeHeader({ snapshotCount: entries.length, snapshotsOffset: BigInt(TABLE) });
  const image = buildImage(8 << 20, [
    [0, header],
    [TABLE, Buffer.concat(entries)],
  ]);
  const { snapshots, problems } = show(readSnapshotTable(openQcow2(new BufferStorage(image))));
  expect(snapshots.length).toBe(Math.floor((3 << 20) / 65536));
  expect(problems.join()).toContain('names together exceed 3145728 bytes: the rest is not shown');
});

test('of many damaged entries, some are told', () => {
  const entries = Array.from({ length: 300 }, () => encodeSnapshotEntry({ l1TableOffset: 1n }));
  const { problems } = readTable(entries);
  expect(problems.length).toBe(101);
  expect(problems.at(-1)).toBe('and 200 more problems of snapshots');
});

test('the view gives each entry as it lies in the file, and its place there', () => {
  const entries = [
    encodeSnapshotEntry({ name: 'a' }),
    encodeSnapshotEntry({ name: 'bad', l1TableOffset: 1n }),
    encodeSnapshotEntry({ name: 'three bytes', extra: Buffer.from([1, 2, 3]) }),
  ];
  const { memory } = readTable(entries);
  const snapshots = new Snapshots(memory);
  expect([snapshots.length, snapshots.at(0)?.index, snapshots.at(1)?.index]).toEqual([2, 0, 2]);
  expect(snapshots.at(2)).toBeUndefined();
  expect(snapshots.at(-1)).toBeUndefined();
  const third = TABLE + (entries[0]?.length ?? 0) + (entries[1]?.length ?? 0);
  expect([snapshots.fileOffset(0), snapshots.fileOffset(1)]).toEqual([TABLE, third]);
  // Fixed part, extra data, an id of one byte, and the name: the padding is left out.
  expect(snapshots.rawEntry(1)).toEqual(entries[2]?.subarray(0, 40 + 3 + 1 + 11));
  expect(() => snapshots.rawEntry(2)).toThrow('there is no snapshot 2');
});

test('a table sent to another thread is the same memory', () => {
  const { memory } = readTable([encodeSnapshotEntry({ name: 'a' })]);
  const sent = structuredClone(memory);
  new Snapshots(memory).rawEntry(0).write('z', 41, 'latin1');
  expect(new Snapshots(sent).at(0)?.entry.name).toBe('z');
});
