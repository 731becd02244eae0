import { describe, expect, test } from 'vitest';
import { type FileSystem, type NodeId, ROOT_NODE_ID } from '../../src/filesystem/file-system.ts';
import { ImageFolders } from '../../src/tree/image-folders.ts';
import { Tree } from '../../src/tree/tree.ts';
import { catchError } from '../support/catch-error.ts';

/** A tree whose image.json is `text`, with this many snapshots. */
function treeOf(text: string, snapshotCount: number, seconds: number): FileSystem {
  const noDisk = () => {
    throw new Error('not read here');
  };
  return new Tree(
    {
      ownership: { permissions: 0o400, uid: 5, gid: 6 },
      time: { seconds, nanoseconds: 0 },
      currentSizeBytes: 1000,
      snapshots: Array.from({ length: snapshotCount }, (_, index) => ({
        id: String(index + 1),
        name: `s${index + 1}`,
        time: { seconds: 0, nanoseconds: 0 },
        sizeBytes: 1000,
        vmStateBytes: 0,
      })),
      blocks: { imageJson: 1, current: 2, snapshots: Array.from({ length: snapshotCount }, (_, index) => 3 + index) },
    },
    {
      disk: noDisk,
      vmState: noDisk,
      volumes: () => [],
      volume: () => {
        throw new Error('there are none');
      },
      isVolatile: () => false,
      requireReadable: () => {},
      imageJson: () => Buffer.from(text),
      infoJson: () => Buffer.from('{}'),
    },
  );
}

const ROOT = { permissions: 0o511, uid: 1, gid: 2 };
const foldersOf = (...snapshotCounts: number[]) =>
  new ImageFolders(
    snapshotCounts.map((count, index) => ({
      name: `vm${index + 1}`,
      tree: treeOf(`image ${index + 1}`, count, index),
    })),
    ROOT,
  );

/** Every path with its node. */
function walk(fs: FileSystem, directory: NodeId = ROOT_NODE_ID, path = ''): [string, NodeId][] {
  return fs
    .entries(directory)
    .flatMap(({ name, nodeId, kind }): [string, NodeId][] => [
      [`${path}/${name}`, nodeId],
      ...(kind === 'directory' ? walk(fs, nodeId, `${path}/${name}`) : []),
    ]);
}

describe('several trees', () => {
  test('are a folder each, with all that they have', () => {
    const paths = walk(foldersOf(1, 0)).map(([path]) => path);
    expect(paths).toEqual([
      ...['', ...walk(treeOf('', 1, 0)).map(([path]) => path)].map((path) => `/vm1${path}`),
      ...['', ...walk(treeOf('', 0, 0)).map(([path]) => path)].map((path) => `/vm2${path}`),
    ]);
  });

  test('have nodes that no two files share, and that stay when another image changes', () => {
    const before = new Map(walk(foldersOf(2, 1)));
    expect(new Set(before.values()).size).toBe(before.size);
    const after = new Map(walk(foldersOf(3, 1)));
    for (const [path, node] of before) expect(after.get(path), path).toBe(node);
    expect(Math.max(...before.values())).toBeLessThan(Number.MAX_SAFE_INTEGER);
  });

  test('agree about names, parents and attributes', () => {
    const fs = foldersOf(1, 2);
    for (const [path, node] of walk(fs)) {
      const parent = fs.parent(node);
      expect(fs.lookup(parent, path.split('/').at(-1) ?? '')).toBe(node);
      if (!path.includes('disk.raw')) expect(fs.attributes(node).nodeId).toBe(node);
    }
    expect(fs.parent(ROOT_NODE_ID)).toBe(ROOT_NODE_ID);
    expect(fs.lookup(ROOT_NODE_ID, 'vm3')).toBeUndefined();
    expect(fs.lookup(fs.lookup(ROOT_NODE_ID, 'vm1') ?? 0, 'nothing')).toBeUndefined();
  });

  test('are read each by its own nodes', () => {
    const fs = foldersOf(0, 0);
    const texts = ['vm1', 'vm2'].map((name) => {
      const target = Buffer.alloc(16);
      const node = fs.lookup(fs.lookup(ROOT_NODE_ID, name) ?? 0, 'image.json') ?? 0;
      return target.toString('utf8', 0, fs.read(node, target, 0, 0, 16));
    });
    expect(texts).toEqual(['image 1', 'image 2']);
  });

  test('have a root of its own, as young as the youngest', () => {
    const fs = foldersOf(0, 0, 0);
    expect(fs.attributes(ROOT_NODE_ID)).toMatchObject({
      ...ROOT,
      kind: 'directory',
      linkCount: 5,
      time: { seconds: 2 },
    });
    expect(fs.xattrNames(ROOT_NODE_ID)).toEqual([]);
    expect(fs.xattr(ROOT_NODE_ID, 'user.qcow2.name')).toBeUndefined();
    expect(fs.statistics().totalBytes).toBe(3000);
  });

  test('do not know nodes of no tree', () => {
    for (const node of [0, 2, ROOT_NODE_ID + 3 * 2 ** 44, 2 ** 44, 2 ** 44 + 77]) {
      expect(catchError(() => foldersOf(0, 0).attributes(node)).code, String(node)).toBe('NOT_FOUND');
    }
    expect(catchError(() => foldersOf(0).open(ROOT_NODE_ID)).code).toBe('NOT_FOUND');
  });
});
