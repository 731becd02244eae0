/** The operations without a mount: answers as the package gets them. */

import { expect, test } from 'vitest';
import { Qcow2fsError } from '../../src/errors.ts';
import { ERRNO } from '../../src/filesystem/errno.ts';
import type { FileSystem, NodeId } from '../../src/filesystem/file-system.ts';
import type { Callback, FuseNativeStat } from '../../src/fuse-native/fuse-native-types.ts';
import { createAttributeOperations, createOperations } from '../../src/fuse-native/operations.ts';
import { DATA_START, DISK_NODE, MemoryFileSystem } from '../fuse/memory-file-system.ts';

/** The same tree with all nodes but the root moved by `distance`, which knows nothing of those of another distance. */
function movedBy(distance: number): FileSystem {
  const inside = new MemoryFileSystem();
  const inner = (node: NodeId): NodeId => {
    if (node !== 1 && (node <= distance || node > distance + 10)) {
      throw new Qcow2fsError('NOT_FOUND', `no node ${node}`);
    }
    return node === 1 ? 1 : node - distance;
  };
  const outer = (node: NodeId) => (node === 1 ? 1 : node + distance);
  return {
    lookup: (parent, name) => {
      const found = inside.lookup(inner(parent), name);
      return found === undefined ? undefined : outer(found);
    },
    attributes: (node) => ({ ...inside.attributes(inner(node)), nodeId: node }),
    entries: (node) => inside.entries(inner(node)).map((entry) => ({ ...entry, nodeId: outer(entry.nodeId) })),
    parent: (node) => outer(inside.parent(inner(node))),
    open: (node) => inside.open(inner(node)),
    read: (node, ...where) => inside.read(inner(node), ...where),
    seekData: (node, offset) => inside.seekData(inner(node), offset),
    seekHole: (node, offset) => inside.seekHole(inner(node), offset),
    readlink: (node) => inside.readlink(inner(node)),
    xattr: (node) => Buffer.from(`of node ${node}`),
    xattrNames: (node) => inside.xattrNames(inner(node)),
    statistics: () => inside.statistics(),
  };
}

/** What an operation, which answers before it returns, gave to its callback. */
function answerOf<Value>(call: (reply: Callback<Value>) => void): { errno: number; value: Value | undefined } {
  let answer: { errno: number; value: Value | undefined } | undefined;
  call((errno, value) => {
    // 0 may be -0.
    answer = { errno: errno + 0, value };
  });
  if (answer === undefined) throw new Error('there was no answer');
  return answer;
}

function serve() {
  let fileSystem = movedBy(0);
  const operations = createOperations(() => fileSystem);
  return {
    operations,
    attributes: createAttributeOperations(() => fileSystem),
    exchange(distance: number) {
      fileSystem = movedBy(distance);
    },
    open: (path: string) => answerOf<number>((reply) => operations.open(path, 0, reply)),
    stat: (path: string) => answerOf<FuseNativeStat>((reply) => operations.getattr(path, reply)),
    fstat: (handle: number) => answerOf<FuseNativeStat>((reply) => operations.fgetattr('-', handle, reply)),
    read(handle: number, offset: number) {
      const target = Buffer.alloc(4);
      let result: number | undefined;
      operations.read('-', handle, target, target.length, offset, (count) => {
        result = count;
      });
      return { result, bytes: [...target] };
    },
    release: (handle: number) => answerOf<void>((reply) => operations.release('-', handle, reply)),
  };
}

test('an open file is read by its handle, whatever path the package names', () => {
  const { open, read, fstat } = serve();
  const { errno, value: handle = 0 } = open('/disk.raw');
  expect(errno).toBe(0);
  const expected = [0, 1, 2, 3].map((index) => (DATA_START + index) % 251);
  expect(read(handle, DATA_START)).toEqual({ result: 4, bytes: expected });
  expect(fstat(handle).value?.ino).toBe(DISK_NODE);
});

test('an open file of a tree that was exchanged is ESTALE, and its path leads to the new node', () => {
  const { open, read, fstat, stat, exchange } = serve();
  const old = open('/disk.raw').value ?? 0;
  exchange(100);
  expect(read(old, DATA_START)).toEqual({ result: -ERRNO.ESTALE, bytes: [0, 0, 0, 0] });
  expect(fstat(old).errno).toBe(-ERRNO.ESTALE);
  expect(stat('/disk.raw').value?.ino).toBe(DISK_NODE + 100);
  const fresh = open('/disk.raw').value ?? 0;
  expect(fresh).not.toBe(old);
  expect(read(fresh, DATA_START).result).toBe(4);
  expect(read(old, DATA_START).result).toBe(-ERRNO.ESTALE);
});

test('an open file whose node is there again is read again', () => {
  const { open, read, exchange } = serve();
  const handle = open('/disk.raw').value ?? 0;
  exchange(100);
  exchange(0);
  expect(read(handle, DATA_START).result).toBe(4);
});

test('a path that is not there is ENOENT, not ESTALE', () => {
  const { open, stat } = serve();
  expect(open('/nothing').errno).toBe(-ERRNO.ENOENT);
  expect(stat('/nothing').errno).toBe(-ERRNO.ENOENT);
});

test('a handle that was released can be used no more', () => {
  const { open, read, release } = serve();
  const handle = open('/disk.raw').value ?? 0;
  expect(release(handle).errno).toBe(0);
  expect(read(handle, 0).result).toBe(-ERRNO.EIO);
});

test('attributes are those of the tree that is served now', () => {
  const { attributes, exchange } = serve();
  const get = () => answerOf<Buffer>((reply) => attributes.get('/disk.raw', 'user.test', reply)).value?.toString();
  expect(get()).toBe(`of node ${DISK_NODE}`);
  exchange(100);
  expect(get()).toBe(`of node ${DISK_NODE + 100}`);
});
