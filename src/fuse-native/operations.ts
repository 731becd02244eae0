/** A `FileSystem` as the operations that fuse-native calls. Each answers before it returns. */

import { ERRNO, toErrno } from '../filesystem/errno.ts';
import { logFailure } from '../filesystem/failure-log.ts';
import { type Attributes, type FileSystem, type NodeId, ROOT_NODE_ID } from '../filesystem/file-system.ts';
import type { Callback, FuseNativeOperations, FuseNativeStat, FuseNativeStatfs } from './fuse-native-types.ts';

const SECTOR_BYTES = 512;
const BLOCK_BYTES = 4096;
const NAME_MAX_BYTES = 255;

/** The one above it stands for "unknown" in libfuse. */
const MAX_INODE_NUMBER = 0xffff_fffe;

/** S_IFMT of stat(2). */
const TYPE_OF_KIND = { directory: 0o040000, file: 0o100000, symlink: 0o120000 } as const;

export interface AttributeOperations {
  get(path: string, name: string, reply: Callback<Buffer>): void;
  list(path: string, reply: Callback<Buffer>): void;
}

export function createOperations(fileSystem: FileSystem): FuseNativeOperations {
  const find = (path: string): NodeId => findNode(fileSystem, path);
  const inodeNumberOf = createInodeNumbers();
  return {
    getattr: (path, reply) =>
      answer('getattr', path, reply, () => {
        const attributes = fileSystem.attributes(find(path));
        return toStat(attributes, inodeNumberOf(attributes.nodeId));
      }),
    readdir: (path, reply) =>
      answer('readdir', path, reply, () => [
        ...['.', '..'],
        ...fileSystem.entries(find(path)).map(({ name }) => Buffer.from(name, 'latin1').toString()),
      ]),
    readlink: (path, reply) => answer('readlink', path, reply, () => fileSystem.readlink(find(path)).toString()),
    statfs: (path, reply) => answer('statfs', path, reply, () => toStatfs(fileSystem)),
    open: (path, _flags, reply) =>
      answer('open', path, reply, () => {
        fileSystem.open(find(path));
        // An open file is its path: nothing is kept for it.
        return 0;
      }),
    read(path, _fd, target, length, offset, reply) {
      // Only below 2^53 is it exact, and no file reaches further.
      const make = () => (Number.isSafeInteger(offset) ? fileSystem.read(find(path), target, 0, offset, length) : 0);
      answer('read', path, (errno, count = 0) => reply(errno < 0 ? errno : count), make);
    },
    getxattr: () => {},
    listxattr: () => {},
  };
}

export function createAttributeOperations(fileSystem: FileSystem): AttributeOperations {
  return {
    get: (path, name, reply) =>
      answer('getxattr', path, reply, () => {
        const value = fileSystem.xattr(findNode(fileSystem, path), name);
        if (value === undefined) throw new MissingError(ERRNO.ENODATA);
        return value;
      }),
    list: (path, reply) =>
      answer('listxattr', path, reply, () => {
        const names = fileSystem.xattrNames(findNode(fileSystem, path));
        return Buffer.from(names.map((name) => `${name}\0`).join(''), 'latin1');
      }),
  };
}

/** Of a name or an attribute that is not there: part of normal life. */
class MissingError extends Error {
  readonly errno: number;

  constructor(errno: number) {
    super();
    this.errno = errno;
  }
}

/** An exception that left this function would end the process. */
function answer<Value>(operation: string, path: string, reply: Callback<Value>, make: () => Value): void {
  let value: Value | undefined;
  let errno = 0;
  try {
    value = make();
  } catch (error) {
    errno = error instanceof MissingError ? error.errno : toErrno(error);
    if (!(error instanceof MissingError)) logFailure(error, operation, path);
  }
  reply(-errno, value);
}

function findNode(fileSystem: FileSystem, path: string): NodeId {
  let node = ROOT_NODE_ID;
  for (const name of path.split('/')) {
    if (name === '') continue;
    const found = fileSystem.lookup(node, Buffer.from(name).toString('latin1'));
    if (found === undefined) throw new MissingError(ERRNO.ENOENT);
    node = found;
  }
  return node;
}

/**
 * Gives each node a number of 32 bits, as long as it is mounted: its own, or the highest that is free. Nodes of several
 * images have large numbers, which would be the same once cut. The numbers of one image leave room at the end: a state has
 * 2^16 of them and uses the first few.
 */
function createInodeNumbers(): (node: NodeId) => number {
  const numbers = new Map<NodeId, number>();
  return (node) => {
    if (node <= MAX_INODE_NUMBER) return node;
    const number = numbers.get(node) ?? MAX_INODE_NUMBER - numbers.size;
    numbers.set(node, number);
    return number;
  };
}

function toStat(attributes: Attributes, inodeNumber: number): FuseNativeStat {
  const { seconds, nanoseconds } = attributes.time;
  const milliseconds = seconds * 1000 + Math.floor(nanoseconds / 1e6);
  return {
    mode: TYPE_OF_KIND[attributes.kind] | attributes.permissions,
    uid: attributes.uid,
    gid: attributes.gid,
    size: attributes.sizeBytes,
    nlink: attributes.linkCount,
    ino: inodeNumber,
    blksize: BLOCK_BYTES,
    blocks: Math.ceil(attributes.allocatedBytes / SECTOR_BYTES),
    atime: milliseconds,
    mtime: milliseconds,
    ctime: milliseconds,
  };
}

/** The count of blocks has 32 bits: from 16 TiB on, they are larger. */
function toStatfs(fileSystem: FileSystem): FuseNativeStatfs {
  const { totalBytes, nodeCount } = fileSystem.statistics();
  let blockBytes = BLOCK_BYTES;
  while (totalBytes / blockBytes >= 2 ** 32) blockBytes *= 2;
  return {
    bsize: blockBytes,
    frsize: blockBytes,
    blocks: Math.ceil(totalBytes / blockBytes),
    files: nodeCount,
    namemax: NAME_MAX_BYTES,
  };
}
