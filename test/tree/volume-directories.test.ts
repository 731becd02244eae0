import { describe, expect, test } from 'vitest';
import { type FileSystem, type NodeId, ROOT_NODE_ID } from '../../src/filesystem/file-system.ts';
import type { StateFile, VolumeEntry } from '../../src/tree/catalogue.ts';
import { blockOf, SLOT, slotOf } from '../../src/tree/node-ids.ts';
import { Tree } from '../../src/tree/tree.ts';
import { catchError } from '../support/catch-error.ts';
import { findNode } from '../support/tree-files.ts';

const TIME = { seconds: 1, nanoseconds: 2 };

/** A tree with these volumes in the current state, in the first snapshot, and so on; each has as many bytes as its place. */
function treeOf(...states: readonly (readonly Partial<VolumeEntry>[])[]): FileSystem {
  const volumesOf = (state: number) =>
    (states[state] ?? []).map((volume, index) => ({
      ...{ name: `p${index + 1}`, label: undefined, uuid: undefined, partitionLabel: undefined },
      sizeBytes: index + 1,
      ...volume,
    }));
  return new Tree(
    {
      ownership: { permissions: 0o440, uid: 7, gid: 8 },
      time: { seconds: 9, nanoseconds: 9 },
      currentSizeBytes: 1024,
      snapshots: states.slice(1).map((_, index) => ({
        ...{ id: String(index + 1), name: `s${index + 1}`, time: TIME, sizeBytes: 1024, vmStateBytes: 0 },
      })),
      blocks: { imageJson: 1, current: 2, snapshots: states.slice(1).map((_, index) => 3 + index) },
    },
    {
      disk: () => fileOf(1024, 0xdd),
      vmState: () => fileOf(0, 0),
      volumes: volumesOf,
      volume: (state, index) => fileOf(volumesOf(state)[index]?.sizeBytes ?? 0, 16 * state + index + 1),
      isVolatile: () => false,
      requireReadable: () => {},
      imageJson: () => Buffer.from('image'),
      infoJson: () => Buffer.from('state'),
    },
  );
}

function fileOf(sizeBytes: number, value: number): StateFile {
  return {
    sizeBytes,
    readAt: (target, targetOffset, _, length) => void target.fill(value, targetOffset, targetOffset + length),
    seekData: () => undefined,
    seekHole: (offset) => offset,
    allocatedBytes: () => 0,
  };
}

const names = (tree: FileSystem, path: string) => tree.entries(findNode(tree, path)).map(({ name }) => name);

/** The names in a directory of links, with what they lead to. */
function links(tree: FileSystem, directory: string): Record<string, string> {
  return Object.fromEntries(
    tree.entries(findNode(tree, directory)).map(({ name, nodeId }) => [name, tree.readlink(nodeId).toString('latin1')]),
  );
}

describe('volumes/', () => {
  test('is empty without volumes', () => {
    expect(names(treeOf([]), 'current/volumes')).toEqual([]);
  });

  test('has a file for each volume, and directories only for names that there are', () => {
    const tree = treeOf([{ label: 'boot', partitionLabel: '' }, { label: '', uuid: 'ab-cd' }, {}]);
    expect(names(tree, 'current/volumes')).toEqual(['by-label', 'by-uuid', 'p1.raw', 'p2.raw', 'p3.raw']);
    expect(links(tree, 'current/volumes/by-label')).toEqual({ boot: '../p1.raw' });
    expect(links(tree, 'current/volumes/by-uuid')).toEqual({ 'ab-cd': '../p2.raw' });
    expect(tree.lookup(findNode(tree, 'current/volumes'), 'by-partlabel')).toBeUndefined();
  });

  test('escapes names that cannot be those of files', () => {
    const hostile = ['a/b', '.', '..', 'new\nline', '100%', '\xff'];
    const tree = treeOf(hostile.map((label) => ({ name: `vg-${label}`, label, partitionLabel: label })));
    const escaped = ['a%2Fb', '%2E', '%2E%2E', 'new%0Aline', '100%25', '%FF'];
    const files = ['a%2Fb', '.', '..', 'new%0Aline', '100%25', '%FF'].map((name) => `vg-${name}.raw`);
    expect(names(tree, 'current/volumes')).toEqual(['by-label', 'by-partlabel', ...files]);
    const expected = Object.fromEntries(escaped.map((name, index) => [name, `../${files[index]}`]));
    expect(links(tree, 'current/volumes/by-label')).toEqual(expected);
    expect(links(tree, 'current/volumes/by-partlabel')).toEqual(expected);
  });

  test('the first one of several with a name keeps it, the others have their place behind it', () => {
    const tree = treeOf([
      { name: 'vg-lv', label: 'data', uuid: '1' },
      { name: 'vg-lv', label: 'other', uuid: '1' },
      { name: 'vg-lv', label: 'data', uuid: '1' },
    ]);
    const files = ['vg-lv.raw', 'vg-lv.raw%id=2', 'vg-lv.raw%id=3'];
    expect(names(tree, 'current/volumes')).toEqual(['by-label', 'by-uuid', ...files]);
    expect(links(tree, 'current/volumes/by-label')).toEqual({
      data: `../${files[0]}`,
      other: `../${files[1]}`,
      'data%id=3': `../${files[2]}`,
    });
    expect(Object.keys(links(tree, 'current/volumes/by-uuid'))).toEqual(['1', '1%id=2', '1%id=3']);
  });

  test('a volume with the name of a directory of links does not hide it', () => {
    const tree = treeOf([{ name: 'by-label', label: 'x' }]);
    expect(names(tree, 'current/volumes')).toEqual(['by-label', 'by-label.raw']);
  });

  test('names that are too long for a file are cut, and stay apart', () => {
    const label = 'é'.repeat(200);
    const tree = treeOf([
      { name: 'n'.repeat(300), label: Buffer.from(label).toString('latin1') },
      { name: 'n'.repeat(300), label: Buffer.from(label).toString('latin1') },
    ]);
    for (const directory of ['current/volumes', 'current/volumes/by-label']) {
      const found = names(tree, directory);
      expect(found.every((name) => name.length <= 255)).toBe(true);
      expect(new Set(found).size).toBe(found.length);
    }
    for (const target of Object.values(links(tree, 'current/volumes/by-label'))) {
      expect(tree.lookup(findNode(tree, 'current/volumes'), target.slice('../'.length))).toBeDefined();
    }
  });
});

describe('the nodes', () => {
  const volume = { label: 'label', uuid: 'uuid', partitionLabel: 'partition' };
  const tree = treeOf([volume, volume], [volume, {}, volume], []);

  test('each is found by its name, has its kind, a number of its own and its parent', () => {
    const seen = new Set<NodeId>();
    const walk = (directory: NodeId) => {
      for (const { name, nodeId, kind } of tree.entries(directory)) {
        expect(tree.lookup(directory, name), name).toBe(nodeId);
        expect(tree.attributes(nodeId), name).toMatchObject({ nodeId, kind });
        expect(tree.parent(nodeId), name).toBe(directory);
        expect(seen).not.toContain(nodeId);
        seen.add(nodeId);
        if (kind === 'directory') walk(nodeId);
      }
    };
    walk(ROOT_NODE_ID);
    expect([...seen].filter((each) => slotOf(each) > SLOT.byPartitionLabel)).toHaveLength(4 * 2 + 4 * 2 + 1);
  });

  test('links lead to the volume beside their directory', () => {
    for (const [name, target] of Object.entries(links(tree, 'snapshots/s1/volumes/by-label'))) {
      const link = tree.attributes(findNode(tree, `snapshots/s1/volumes/by-label/${name}`));
      expect(link).toMatchObject({ sizeBytes: target.length, permissions: 0o777, time: TIME });
      expect(findNode(tree, `snapshots/s1/volumes/${target.slice('../'.length)}`)).toBeDefined();
    }
  });

  test('a file is read from its own volume of its own state, up to its end', () => {
    const file = findNode(tree, 'snapshots/s1/volumes/p3.raw');
    expect(tree.attributes(file)).toMatchObject({ sizeBytes: 3, permissions: 0o440, uid: 7, gid: 8, time: TIME });
    const target = Buffer.alloc(6, 0xee);
    expect(tree.read(file, target, 1, 1, 100)).toBe(2);
    expect(target).toEqual(Buffer.from([0xee, 16 + 3, 16 + 3, 0xee, 0xee, 0xee]));
    expect(tree.xattr(file, 'user.qcow2.state')?.toString()).toBe('id:1');
  });

  test('all are in the block of their state, as it is never used again', () => {
    const block = blockOf(findNode(tree, 'snapshots/s1/disk.raw'));
    const paths = ['volumes', 'volumes/by-label', 'volumes/by-label/label', 'volumes/p1.raw'];
    expect(paths.map((path) => blockOf(findNode(tree, `snapshots/s1/${path}`)))).toEqual(paths.map(() => block));
  });

  test('those that no volume has are NOT_FOUND', () => {
    const second = findNode(tree, 'snapshots/s1/volumes/p2.raw');
    const bad = [
      // The second volume has no names.
      ...[1, 2, 3].map((part) => second + part),
      findNode(tree, 'snapshots/s1/volumes/p3.raw') + 4,
      findNode(tree, 'snapshots/s2/volumes') + 1,
      findNode(tree, 'current/volumes/by-partlabel') + 1,
    ];
    for (const each of bad) {
      expect(catchError(() => tree.attributes(each)).code, String(each)).toBe('NOT_FOUND');
      expect(catchError(() => tree.open(each)).code).toBe('NOT_FOUND');
      expect(catchError(() => tree.parent(each)).code).toBe('NOT_FOUND');
      expect(catchError(() => tree.entries(each)).code).toBe('NOT_FOUND');
      expect(catchError(() => tree.readlink(each)).code).toBe('NOT_FOUND');
    }
  });
});
