import { expect, test } from 'vitest';
import { Qcow2fsError } from '../../src/errors.ts';
import { openQcow2 } from '../../src/qcow2/open-qcow2.ts';
import { readSnapshotTable, Snapshots } from '../../src/qcow2/snapshots.ts';
import { findTableProblems } from '../../src/qcow2/table-problems.ts';
import { BufferStorage } from '../../src/storage/buffer-storage.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { buildImage, encodeHeader, encodeSnapshotEntry, type HeaderFields, u64 } from '../fixtures/image-builder.ts';

const CLUSTER = 65536;
const L1 = 3 * CLUSTER;
const SNAPSHOTS = 4 * CLUSTER;
const FILE_BYTES = 8 * CLUSTER;
const PAST = 1n << 40n;

interface Layout {
  readonly l1: readonly bigint[];
  readonly header?: Partial<HeaderFields>;
  readonly snapshots?: readonly Buffer[];
  readonly wrap?: (storage: Storage) => Storage;
}

function problemsOf({ l1, header = {}, snapshots = [], wrap = (storage) => storage }: Layout): string[] {
  const fields = { l1Size: l1.length, snapshotCount: snapshots.length, snapshotsOffset: BigInt(SNAPSHOTS), ...header };
  const image = buildImage(FILE_BYTES, [
    [0, encodeHeader(fields)],
    [L1, Buffer.concat(l1.map(u64))],
    [SNAPSHOTS, Buffer.concat(snapshots)],
  ]);
  const file = openQcow2(wrap(new BufferStorage(image)));
  return findTableProblems(file, new Snapshots(readSnapshotTable(file).memory));
}

test('tables that are there are no problem, whatever their flags', () => {
  expect(problemsOf({ l1: [0n, BigInt(5 * CLUSTER) | (1n << 63n) | 0x1ffn, BigInt(FILE_BYTES - CLUSTER)] })).toEqual(
    [],
  );
});

test('a table that begins at the end of the file, or is not aligned, is told with its place', () => {
  expect(problemsOf({ l1: [BigInt(FILE_BYTES), 0n, BigInt(5 * CLUSTER + 512)] })).toEqual([
    'the current state: the L2 table at offset 524288 (L1 entry 0) lies past the end of the file',
    'the current state: the L2 table at offset 328192 (L1 entry 2) is not cluster aligned',
  ]);
});

test('of many in one table, the first are told and the others counted', () => {
  const problems = problemsOf({ l1: Array.from({ length: 1000 }, () => PAST) });
  expect(problems).toHaveLength(9);
  expect(problems.at(-1)).toBe('the current state: 992 more L2 tables cannot be read');
});

test('a table of several states is looked at once, and a list of many states comes to an end', () => {
  const shared = Array.from({ length: 3 }, () => encodeSnapshotEntry({}));
  expect(problemsOf({ l1: [PAST], snapshots: shared })).toHaveLength(1);
  const [long, short] = [
    { l1TableOffset: PAST, l1Size: 2 },
    { l1TableOffset: PAST, l1Size: 1 },
  ];
  const pairs = [short, long, short, long].map(encodeSnapshotEntry);
  expect(problemsOf({ l1: [0n], snapshots: pairs }).map((problem) => problem.slice(0, 24))).toEqual([
    'snapshot table entry 0: ',
    'snapshot table entry 1: ',
  ]);
  const own = Array.from({ length: 500 }, (_, index) =>
    encodeSnapshotEntry({ l1TableOffset: PAST * BigInt(index + 1) }),
  );
  const problems = problemsOf({ l1: [0n], snapshots: own });
  expect(problems).toHaveLength(101);
  expect(problems[7]).toBe(
    `snapshot table entry 7: its L1 table at offset ${PAST * 8n} (8 bytes) lies past the end of the file (524288 bytes)`,
  );
  expect(problems.at(-1)).toContain('qcow2fs check');
});

test('an active table that cannot be used is told elsewhere, and not looked at', () => {
  expect(problemsOf({ l1: [PAST], header: { size: 1n << 40n } })).toEqual([]);
});

test('a table that the system cannot read is a problem of its state', () => {
  const problems = problemsOf({
    l1: [0n],
    wrap: (storage) => ({
      name: 'bad sector',
      sizeBytes: storage.sizeBytes,
      readUpTo(target, targetOffset, length, position) {
        if (position === L1) throw new Qcow2fsError('IO', 'EIO');
        return storage.readUpTo(target, targetOffset, length, position);
      },
    }),
  });
  expect(problems).toEqual(['the current state: its L1 table cannot be read: EIO']);
});
