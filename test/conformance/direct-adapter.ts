/** The `FileSystem` object itself, in this process and without any mount. */

import { createHash } from 'node:crypto';
import { getSystemErrorName } from 'node:util';
import { ERRNO, toErrno } from '../../src/filesystem/errno.ts';
import { type Attributes, type FileSystem, type NodeId, ROOT_NODE_ID } from '../../src/filesystem/file-system.ts';
import { type Adapter, type ExtentStart, errnoError, type NodeStat } from './adapter.ts';

const PIECE_BYTES = 1024 * 1024;

export function openDirectAdapter(fileSystem: FileSystem): Adapter {
  const find = (path: string): NodeId => findNode(fileSystem, path);
  const sizeOf = (node: NodeId): number => fileSystem.attributes(node).sizeBytes;
  const seek = (node: NodeId, whence: 'data' | 'hole', offset: number): number | undefined =>
    whence === 'data' ? fileSystem.seekData(node, offset) : fileSystem.seekHole(node, offset);
  const read = (node: NodeId, offset: number, length: number): Buffer => {
    const target = Buffer.alloc(length + 1);
    fileSystem.open(node);
    return target.subarray(1, 1 + fileSystem.read(node, target, 1, offset, length));
  };
  const xattr = (node: NodeId, name: string): string => {
    const value = fileSystem.xattr(node, name);
    if (value === undefined) throw fail(ERRNO.ENODATA);
    return value.toString();
  };
  return attempting({
    list: (path) => fileSystem.entries(find(path)).map(({ name }) => Buffer.from(name, 'latin1').toString()),
    stat: (path) => toStat(fileSystem.attributes(find(path))),
    read: (path, offset, length) => read(find(path), Number(offset), length),
    readAll: (path) => read(find(path), 0, sizeOf(find(path))),
    sha256(path) {
      const node = find(path);
      const hash = createHash('sha256');
      for (let offset = 0; offset < sizeOf(node); offset += PIECE_BYTES) hash.update(read(node, offset, PIECE_BYTES));
      return hash.digest('hex');
    },
    readlink: (path) => fileSystem.readlink(find(path)).toString(),
    extents(path) {
      const node = find(path);
      const starts: ExtentStart[] = [];
      let whence: 'data' | 'hole' = seek(node, 'data', 0) === 0 ? 'data' : 'hole';
      for (let offset: number | undefined = 0; offset !== undefined && offset < sizeOf(node); ) {
        starts.push(`${whence === 'data' ? 'DATA' : 'HOLE'} ${offset}`);
        whence = whence === 'data' ? 'hole' : 'data';
        offset = seek(node, whence, offset);
      }
      if (starts.at(-1)?.startsWith('DATA')) starts.push(`HOLE ${sizeOf(node)}`);
      return starts;
    },
    seek: (path, whence, offset) => seek(find(path), whence, offset),
    xattrs(path) {
      const node = find(path);
      return Object.fromEntries(fileSystem.xattrNames(node).map((name) => [name, xattr(node, name)]));
    },
    xattr: (path, name) => xattr(find(path), name),
    statistics() {
      const { totalBytes, nodeCount } = fileSystem.statistics();
      return { totalBytes, freeBytes: 0, nodeCount };
    },
    tryToWrite() {
      throw new Error('there is no operation that writes');
    },
  });
}

type Synchronous<T> = {
  [Key in keyof T]: T[Key] extends (...args: infer Args) => Promise<infer Result> ? (...args: Args) => Result : never;
};

/** Makes promises of results, and errnos of errors. */
function attempting(adapter: Synchronous<Adapter>): Adapter {
  const methods = Object.entries(adapter as Record<string, (...args: unknown[]) => unknown>).map(([name, method]) => [
    name,
    async (...args: unknown[]) => {
      try {
        return method(...args);
      } catch (error) {
        throw error instanceof Error && 'errno' in error ? error : fail(toErrno(error));
      }
    },
  ]);
  return Object.fromEntries(methods) as unknown as Adapter;
}

/** As the kernel walks a path, but for symlinks, which are not followed. */
function findNode(fileSystem: FileSystem, path: string): NodeId {
  let node = ROOT_NODE_ID;
  for (const name of path.split('/').filter((part) => part !== '')) {
    if (fileSystem.attributes(node).kind !== 'directory') throw fail(ERRNO.ENOTDIR);
    const found = fileSystem.lookup(node, Buffer.from(name).toString('latin1'));
    if (found === undefined) throw fail(ERRNO.ENOENT);
    node = found;
  }
  return node;
}

function toStat({ nodeId, time, allocatedBytes, ...others }: Attributes): NodeStat {
  return {
    ...others,
    inode: nodeId,
    // In blocks of 512 bytes, as stat(2) tells it.
    allocatedBytes: Math.ceil(allocatedBytes / 512) * 512,
    modifiedNs: String(BigInt(time.seconds) * 1_000_000_000n + BigInt(time.nanoseconds)),
  };
}

function fail(errno: number): Error {
  return Object.assign(errnoError(getSystemErrorName(-errno)), { errno });
}
