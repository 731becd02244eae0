/** What the kernel is told when another tree is shown in the place of one. */

import { describe, expect, test } from 'vitest';
import { type CacheChange, cacheChanges } from '../../src/filesystem/cache-change.ts';
import { type FileSystem, type NodeId, ROOT_NODE_ID } from '../../src/filesystem/file-system.ts';
import { BY_DATE, BY_ID, CURRENT, nodeInBlock, SLOT, SNAPSHOTS } from '../../src/tree/node-ids.ts';
import { Tree } from '../../src/tree/tree.ts';

interface Shown {
  readonly block: number;
  readonly name: string;
  readonly id: string;
}

const A = { block: 3, name: 'a', id: '1' };
const B = { block: 4, name: 'b', id: '2' };
const NOT_READ = () => {
  throw new Error('not read here');
};

/** The real tree over these snapshots, which all have VM state. */
function treeOf(snapshots: readonly Shown[], { imageJson = 1, current = 2 } = {}): FileSystem {
  const time = { seconds: 0, nanoseconds: 0 };
  return new Tree(
    {
      ownership: { permissions: 0o400, uid: 0, gid: 0 },
      time,
      currentSizeBytes: 1024,
      snapshots: snapshots.map(({ name, id }) => ({ name, id, time, sizeBytes: 1024, vmStateBytes: 512 })),
      blocks: { imageJson, current, snapshots: snapshots.map(({ block }) => block) },
    },
    {
      disk: NOT_READ,
      vmState: NOT_READ,
      volumes: () => [],
      volume: () => {
        throw new Error('there are none');
      },
      isVolatile: () => false,
      requireReadable: NOT_READ,
      imageJson: NOT_READ,
      infoJson: NOT_READ,
    },
  );
}

const node = (id: NodeId): CacheChange => ({ kind: 'node', node: id });
const entry = (parent: NodeId, name: string): CacheChange => ({ kind: 'entry', parent, name });
const nodesOf = (block: number, ...slots: (keyof typeof SLOT)[]) =>
  slots.map((slot) => node(nodeInBlock(block, SLOT[slot])));
const sorted = (changes: readonly CacheChange[]) => changes.map((change) => JSON.stringify(change)).sort();

/** All that is told when a snapshot is not there any more. */
function goneSnapshot({ block, name, id }: Shown, dateName: string): CacheChange[] {
  return [
    ...nodesOf(block, 'directory', 'disk', 'info', 'vmState', 'volumes', 'byIdLink', 'byDateLink'),
    ...[entry(SNAPSHOTS, name), entry(BY_ID, id), entry(BY_DATE, dateName)],
    ...[node(SNAPSHOTS), node(BY_ID), node(BY_DATE)],
  ];
}

const DATE = '1970-01-01T000000Z';

describe('between two trees, the changes are', () => {
  const cases: [string, FileSystem, FileSystem, CacheChange[]][] = [
    ['none if they show the same', treeOf([A, B]), treeOf([A, B]), []],
    [
      'the description of the image, by its name and its node',
      treeOf([A]),
      treeOf([A], { imageJson: 9 }),
      [...nodesOf(1, 'imageJson'), entry(ROOT_NODE_ID, 'image.json'), node(ROOT_NODE_ID)],
    ],
    [
      'the files of another current state',
      treeOf([A]),
      treeOf([A], { current: 9 }),
      [
        ...nodesOf(2, 'disk', 'info', 'volumes'),
        ...['disk.raw', 'info.json', 'volumes'].map((name) => entry(CURRENT, name)),
        node(CURRENT),
      ],
    ],
    ['all of a snapshot that is gone', treeOf([A, B]), treeOf([A]), goneSnapshot(B, `${DATE}%id=2`)],
    [
      'the names of one that came, and the directories that have them',
      treeOf([A]),
      treeOf([A, B]),
      [
        ...[entry(SNAPSHOTS, 'b'), entry(BY_ID, '2'), entry(BY_DATE, `${DATE}%id=2`)],
        ...[node(SNAPSHOTS), node(BY_ID), node(BY_DATE)],
      ],
    ],
    [
      'all of one that was made anew under its name',
      treeOf([A, B]),
      treeOf([A, { ...B, block: 7 }]),
      goneSnapshot(B, `${DATE}%id=2`),
    ],
  ];
  test.each(cases)('%s', (_, before, after, expected) => {
    expect(sorted(cacheChanges(before, after))).toEqual(sorted(expected));
  });
});

test('a link that leads elsewhere is told, though its name and its node stay', () => {
  // The second of two snapshots with one name has its id behind it, until the first is gone.
  const one = { ...A, name: 'same' };
  const other = { ...B, name: 'same' };
  const changes = cacheChanges(treeOf([one, other]), treeOf([other]));
  expect(changes).toContainEqual(node(nodeInBlock(other.block, SLOT.byIdLink)));
  expect(changes).toContainEqual(entry(SNAPSHOTS, 'same%id=2'));
  expect(changes).toContainEqual(entry(SNAPSHOTS, 'same'));
});

test('a directory is told behind the names in it', () => {
  const changes = cacheChanges(treeOf([A, B]), treeOf([A]));
  const last = (matches: (change: CacheChange) => boolean) => changes.findLastIndex(matches);
  for (const directory of [SNAPSHOTS, BY_ID, BY_DATE]) {
    const told = last((change) => change.kind === 'node' && change.node === directory);
    expect(told).toBeGreaterThan(last((change) => change.kind === 'entry' && change.parent === directory));
  }
});
