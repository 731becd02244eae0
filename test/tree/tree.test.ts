import { beforeEach, describe, expect, test } from 'vitest';
import { Qcow2fsError } from '../../src/errors.ts';
import { type FileSystem, type NodeId, ROOT_NODE_ID } from '../../src/filesystem/file-system.ts';
import type { Contents, StateFile } from '../../src/tree/catalogue.ts';
import { Tree } from '../../src/tree/tree.ts';
import { catchError } from '../support/catch-error.ts';
import { findNode } from '../support/tree-files.ts';

/** A file whose first half is data with one value and whose second half is a hole, as long as `isStale` is false. */
function halfFile(value: number, sizeBytes: number): StateFile {
  const half = sizeBytes / 2;
  const exact = <Value>(result: Value): Value => {
    if (isStale) throw new Qcow2fsError('STALE', 'changed');
    return result;
  };
  return {
    sizeBytes,
    readAt: (target, targetOffset, offset, length) => {
      if (offset + length > sizeBytes) throw new Error('read past the end of the disk');
      exact(target.fill(value, targetOffset, targetOffset + length));
    },
    seekData: (offset) => exact(offset < half ? offset : undefined),
    seekHole: (offset) => exact(offset < half ? half : offset),
    allocatedBytes: () => exact(half),
  };
}

const MONDAY = { seconds: Date.UTC(2026, 10, 16, 2) / 1000, nanoseconds: 5 };
const IMAGE_TIME = { seconds: 1, nanoseconds: 2 };

let isStale = false;
let tree: FileSystem;

beforeEach(() => {
  isStale = false;
  const contents: Contents = {
    disk: (state) => {
      if (state === 3) throw new Qcow2fsError('DAMAGED', 'no L1');
      return halfFile(state, state === 2 ? 2048 : 1024);
    },
    vmState: (state) => halfFile(0x40 + state, 512),
    volumes: () => [],
    volume: () => {
      throw new Error('there are none');
    },
    isVolatile: () => false,
    requireReadable: () => {
      if (isStale) throw new Qcow2fsError('STALE', 'changed');
    },
    imageJson: () => Buffer.from('image'),
    infoJson: (state) => {
      if (isStale) throw new Qcow2fsError('STALE', 'changed');
      return Buffer.from(`state ${state}`);
    },
  };
  tree = new Tree(
    {
      ownership: { permissions: 0o440, uid: 7, gid: 8 },
      time: IMAGE_TIME,
      currentSizeBytes: 1024,
      snapshots: [
        { id: '1', name: 'monday', time: MONDAY, sizeBytes: 1024, vmStateBytes: 0 },
        { id: '2', name: 'a/b', time: MONDAY, sizeBytes: 2048, vmStateBytes: 512 },
        { id: '9', name: '..', time: MONDAY, sizeBytes: 1024, vmStateBytes: 0 },
      ],
      blocks: { imageJson: 9, current: 4, snapshots: [3, 7, 8] },
    },
    contents,
  );
});

const node = (...path: string[]) => findNode(tree, path.join('/'));
const names = (...path: string[]) => tree.entries(node(...path)).map(({ name }) => name);

describe('directories', () => {
  test('hold what the layout says', () => {
    expect(names()).toEqual(['snapshots', 'by-id', 'by-date', 'current', 'image.json']);
    expect(names('current')).toEqual(['disk.raw', 'info.json', 'volumes']);
    expect(names('snapshots')).toEqual(['monday', 'a%2Fb', '%2E%2E']);
    expect(names('snapshots', 'monday')).toEqual(['disk.raw', 'info.json', 'volumes']);
    expect(names('by-id')).toEqual(['1', '2', '9']);
    expect(names('by-date')).toEqual(['2026-11-16T020000Z', '2026-11-16T020000Z%id=2', '2026-11-16T020000Z%id=9']);
  });

  test('every entry is found by its name, has its kind and knows its parent', () => {
    const walk = (directory: NodeId) => {
      for (const { name, nodeId, kind } of tree.entries(directory)) {
        expect(tree.lookup(directory, name)).toBe(nodeId);
        expect(tree.attributes(nodeId)).toMatchObject({ nodeId, kind });
        expect(tree.parent(nodeId)).toBe(directory);
        if (kind === 'directory') walk(nodeId);
      }
    };
    walk(ROOT_NODE_ID);
    expect(tree.parent(ROOT_NODE_ID)).toBe(ROOT_NODE_ID);
  });

  test('list their entries in the order of their nodes', () => {
    for (const path of [[], ['snapshots'], ['by-id'], ['by-date'], ['current'], ['snapshots', 'a%2Fb']]) {
      const nodes = tree.entries(node(...path)).map(({ nodeId }) => nodeId);
      expect(nodes, path.join('/')).toEqual(nodes.toSorted((one, other) => one - other));
    }
  });

  test('a name that is not there is undefined', () => {
    expect(tree.lookup(ROOT_NODE_ID, 'monday')).toBeUndefined();
    expect(tree.lookup(node('snapshots'), '..')).toBeUndefined();
  });

  test('count themselves, their entry and their subdirectories as links', () => {
    expect(tree.attributes(ROOT_NODE_ID).linkCount).toBe(2 + 4);
    expect(tree.attributes(node('snapshots')).linkCount).toBe(2 + 3);
    expect(tree.attributes(node('current')).linkCount).toBe(2 + 1);
  });
});

test('symlinks lead to the folder of the snapshot', () => {
  expect(tree.readlink(node('by-id', '2')).toString()).toBe('../snapshots/a%2Fb');
  expect(tree.readlink(node('by-date', '2026-11-16T020000Z')).toString()).toBe('../snapshots/monday');
  expect(tree.attributes(node('by-id', '2')).sizeBytes).toBe('../snapshots/a%2Fb'.length);
});

test('permissions and owner follow the image; directories add x where r is', () => {
  expect(tree.attributes(node('current', 'disk.raw'))).toMatchObject({ permissions: 0o440, uid: 7, gid: 8 });
  expect(tree.attributes(node('snapshots'))).toMatchObject({ permissions: 0o550, uid: 7, gid: 8 });
});

test("a state has its own size, its allocation, and the snapshot's date", () => {
  expect(tree.attributes(node('snapshots', 'a%2Fb', 'disk.raw'))).toMatchObject({
    sizeBytes: 2048,
    allocatedBytes: 1024,
    time: MONDAY,
  });
  expect(tree.attributes(node('snapshots', 'a%2Fb')).time).toEqual(MONDAY);
  expect(tree.attributes(node('by-id', '2')).time).toEqual(MONDAY);
  expect(tree.attributes(node('current', 'disk.raw')).time).toEqual(IMAGE_TIME);
});

test('a disk is read from its own state, up to its end and no further', () => {
  const target = Buffer.alloc(8, 0xee);
  expect(tree.read(node('snapshots', 'a%2Fb', 'disk.raw'), target, 1, 0, 6)).toBe(6);
  expect(target).toEqual(Buffer.from([0xee, 2, 2, 2, 2, 2, 2, 0xee]));
  expect(tree.read(node('snapshots', 'monday', 'disk.raw'), target, 0, 1020, 8)).toBe(4);
  expect(tree.read(node('snapshots', 'monday', 'disk.raw'), target, 0, 1024, 8)).toBe(0);
  expect(tree.read(node('snapshots', 'monday', 'disk.raw'), target, 0, 5000, 8)).toBe(0);
});

test('the VM state is a file of its own, of the snapshots that have one', () => {
  expect(names('snapshots', 'a%2Fb')).toEqual(['disk.raw', 'info.json', 'vmstate.bin', 'volumes']);
  const vmState = node('snapshots', 'a%2Fb', 'vmstate.bin');
  expect(tree.attributes(vmState)).toMatchObject({ sizeBytes: 512, allocatedBytes: 256, time: MONDAY });
  const target = Buffer.alloc(4);
  expect(tree.read(vmState, target, 0, 508, 10)).toBe(4);
  expect(target).toEqual(Buffer.alloc(4, 0x42));
  tree.open(vmState);
});

test('a JSON file is read like any file and has no holes', () => {
  const target = Buffer.alloc(8);
  const info = node('snapshots', 'monday', 'info.json');
  expect(tree.attributes(info).sizeBytes).toBe(7);
  expect(tree.read(info, target, 0, 2, 8)).toBe(5);
  expect(target.toString('latin1', 0, 5)).toBe('ate 1');
  expect(tree.read(info, target, 0, 7, 8)).toBe(0);
  expect(tree.seekData(info, 3)).toBe(3);
  expect(tree.seekHole(info, 3)).toBe(7);
});

test('data and holes are found', () => {
  const disk = node('current', 'disk.raw');
  expect([tree.seekData(disk, 100), tree.seekData(disk, 512)]).toEqual([100, undefined]);
  expect([tree.seekHole(disk, 100), tree.seekHole(disk, 600)]).toEqual([512, 600]);
});

test('the exact name, id and state are extended attributes', () => {
  const disk = node('snapshots', '%2E%2E', 'disk.raw');
  expect(tree.xattrNames(disk)).toEqual(['user.qcow2.name', 'user.qcow2.id', 'user.qcow2.state']);
  expect(tree.xattrNames(disk).map((name) => tree.xattr(disk, name)?.toString())).toEqual(['..', '9', 'id:9']);
  expect(tree.xattrNames(node('current'))).toEqual(['user.qcow2.state']);
  expect(tree.xattr(node('current'), 'user.qcow2.state')?.toString()).toBe('current');
  expect(tree.xattr(node('current'), 'user.qcow2.name')).toBeUndefined();
  expect(tree.xattrNames(ROOT_NODE_ID)).toEqual([]);
});

describe('when the image was changed', () => {
  const attempts: [string, (disk: NodeId) => unknown][] = [
    ['open', (disk) => tree.open(disk)],
    ['read', (disk) => tree.read(disk, Buffer.alloc(8), 0, 0, 8)],
    ['SEEK_DATA', (disk) => tree.seekData(disk, 0)],
    ['SEEK_HOLE', (disk) => tree.seekHole(disk, 0)],
  ];
  test.each(attempts)('%s is ESTALE', (_, attempt) => {
    const disk = node('snapshots', 'monday', 'disk.raw');
    isStale = true;
    expect(catchError(() => attempt(disk)).code).toBe('STALE');
  });

  test('what describes the state cannot be opened, what describes the image can', () => {
    const info = node('snapshots', 'monday', 'info.json');
    tree.open(info);
    isStale = true;
    expect(catchError(() => tree.open(info)).code).toBe('STALE');
    tree.open(node('image.json'));
  });

  test('what describes the state is not read either, and its size is that of a file that has to be read to its end', () => {
    const info = node('snapshots', 'monday', 'info.json');
    expect(tree.open(info)).toBe('volatile');
    isStale = true;
    expect(catchError(() => tree.read(info, Buffer.alloc(8), 0, 0, 8)).code).toBe('STALE');
    expect(tree.attributes(info).sizeBytes).toBe(0);
  });

  test('a stat still answers, with an allocation that hides nothing', () => {
    isStale = true;
    expect(tree.attributes(node('snapshots', 'monday', 'disk.raw'))).toMatchObject({
      sizeBytes: 1024,
      allocatedBytes: 1024,
    });
  });
});

test('a state that cannot be read is listed, and opening it is the error', () => {
  const disk = node('snapshots', '%2E%2E', 'disk.raw');
  expect(tree.attributes(disk)).toMatchObject({ sizeBytes: 1024, allocatedBytes: 1024 });
  expect(catchError(() => tree.open(disk)).code).toBe('DAMAGED');
  expect(tree.read(node('snapshots', '%2E%2E', 'info.json'), Buffer.alloc(8), 0, 0, 8)).toBe(7);
});

test('nodes that do not exist are NOT_FOUND everywhere', () => {
  const last = node('by-date', '2026-11-16T020000Z%id=9');
  for (const bad of [
    0,
    6,
    65535,
    5 * 65536 + 1,
    9 * 65536,
    node('image.json') + 1,
    node('current', 'disk.raw') - 1,
    node('current', 'disk.raw') + 4,
    node('snapshots', 'monday', 'disk.raw') + 4,
    last + 1,
    last + 65536,
    2 ** 52,
  ]) {
    expect(catchError(() => tree.attributes(bad)).code).toBe('NOT_FOUND');
    expect(catchError(() => tree.entries(bad)).code).toBe('NOT_FOUND');
    expect(catchError(() => tree.open(bad)).code).toBe('NOT_FOUND');
    expect(catchError(() => tree.read(bad, Buffer.alloc(1), 0, 0, 1)).code).toBe('NOT_FOUND');
    expect(catchError(() => tree.readlink(bad)).code).toBe('NOT_FOUND');
    expect(catchError(() => tree.parent(bad)).code).toBe('NOT_FOUND');
    expect(catchError(() => tree.lookup(bad, 'x')).code).toBe('NOT_FOUND');
  }
});
