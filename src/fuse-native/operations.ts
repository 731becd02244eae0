/** A `FileSystem` as the operations that fuse-native calls. All but `open` answer before they return. */

import { Qcow2fsError } from '../errors.ts';
import { ERRNO, toErrno } from '../filesystem/errno.ts';
import { logFailure } from '../filesystem/failure-log.ts';
import {
  type Attributes,
  type FileSystem,
  isWritable,
  type NodeId,
  ROOT_NODE_ID,
  type WritableFileSystem,
} from '../filesystem/file-system.ts';
import type { Callback, FuseNativeOperations, FuseNativeStat, FuseNativeStatfs } from './fuse-native-types.ts';
import { InodeNumbers } from './inode-numbers.ts';
import { OpenFiles } from './open-files.ts';

const SECTOR_BYTES = 512;
const BLOCK_BYTES = 4096;
const NAME_MAX_BYTES = 255;

/** Twice as long as it takes to notice a change of an image. */
const OPEN_PATIENCE_MS = 500;
const OPEN_RETRY_MS = 20;

/** O_ACCMODE of include/uapi/asm-generic/fcntl.h; O_RDONLY is 0. */
const O_ACCMODE = 0o3;
const ANY_MAY_WRITE = 0o222;

/** S_IFMT of stat(2). */
const TYPE_OF_KIND = { directory: 0o040000, file: 0o100000, symlink: 0o120000 } as const;

/** The file system to serve now. Each operation asks once, and so sees one tree, also while that is exchanged. */
export type CurrentFileSystem = () => FileSystem;

export interface AttributeOperations {
  get(path: string, name: string, reply: Callback<Buffer>): void;
  list(path: string, reply: Callback<Buffer>): void;
}

/** A path is looked up anew by each operation; an open file stays the node that its path was when it was opened. */
export function createOperations(current: CurrentFileSystem): FuseNativeOperations {
  const openFiles = new OpenFiles();
  const inodeNumbers = new InodeNumbers({ isKnown: (node) => hasNode(current(), node) });
  const stat = (attributes: Attributes) => toStat(attributes, inodeNumbers.of(attributes.nodeId));
  return {
    getattr: (path, reply) => answer('getattr', path, reply, () => stat(attributesOf(current(), path))),
    fgetattr: (path, handle, reply) =>
      answerForOpenFile('getattr', path, reply, () => stat(current().attributes(openFiles.node(handle)))),
    readdir: (path, reply) => answer('readdir', path, reply, () => namesIn(current(), path)),
    readlink: (path, reply) => answer('readlink', path, reply, () => targetOf(current(), path)),
    statfs: (path, reply) => answer('statfs', path, reply, () => toStatfs(current())),
    open: (path, flags, reply) =>
      openWhenKnown(path, reply, performance.now() + OPEN_PATIENCE_MS, () => {
        const fileSystem = current();
        const node = findNode(fileSystem, path);
        // The kernel refuses it on a mount that is read-only.
        const isForWriting = (flags & O_ACCMODE) !== 0;
        if (isForWriting && (fileSystem.attributes(node).permissions & ANY_MAY_WRITE) === 0) {
          throw new DeniedError(ERRNO.EACCES);
        }
        fileSystem.open(node);
        return openFiles.add(node);
      }),
    read(path, handle, target, length, offset, reply) {
      const make = () => {
        const node = openFiles.node(handle);
        // Only below 2^53 is it exact, and no file reaches further.
        return Number.isSafeInteger(offset) ? current().read(node, target, 0, offset, length) : 0;
      };
      answerForOpenFile('read', path, (errno, count = 0) => reply(errno < 0 ? errno : count), make);
    },
    release: (path, handle, reply) => answer('release', path, reply, () => openFiles.remove(handle)),
    getxattr: () => {},
    listxattr: () => {},
    ...(isWritable(current()) ? createWriteOperations(current, openFiles) : {}),
  };
}

type WriteOperations = Pick<FuseNativeOperations, 'write' | 'fsync' | 'truncate' | 'utimens'>;

function createWriteOperations(current: CurrentFileSystem, openFiles: OpenFiles): WriteOperations {
  return {
    write(path, handle, source, length, offset, reply) {
      const make = () => {
        const node = openFiles.node(handle);
        const isWithinReach = Number.isSafeInteger(offset + length);
        const count = isWithinReach ? requireWritable(current()).write(node, source, 0, offset, length) : 0;
        if (count === 0 && length > 0) throw new DeniedError(ERRNO.EFBIG);
        return count;
      };
      answerForOpenFile('write', path, (errno, count = 0) => reply(errno < 0 ? errno : count), make);
    },
    fsync: (path, _isDataOnly, handle, reply) =>
      answerForOpenFile('fsync', path, reply, () => requireWritable(current()).sync(openFiles.node(handle))),
    // As in `fuse/handlers/writing.ts`: nothing can be resized, and times are taken and forgotten.
    truncate: (path, sizeBytes, reply) =>
      answer('truncate', path, reply, () => {
        if (attributesOf(current(), path).sizeBytes !== sizeBytes) throw new DeniedError(ERRNO.EPERM);
      }),
    utimens: (path, _atime, _mtime, reply) => answer('utimens', path, reply, () => void findNode(current(), path)),
  };
}

function requireWritable(fileSystem: FileSystem): WritableFileSystem {
  if (isWritable(fileSystem)) return fileSystem;
  throw new DeniedError(ERRNO.EROFS);
}

export function createAttributeOperations(current: CurrentFileSystem): AttributeOperations {
  return {
    get: (path, name, reply) =>
      answer('getxattr', path, reply, () => {
        const fileSystem = current();
        const value = fileSystem.xattr(findNode(fileSystem, path), name);
        if (value === undefined) throw new DeniedError(ERRNO.ENODATA);
        return value;
      }),
    list: (path, reply) =>
      answer('listxattr', path, reply, () => {
        const fileSystem = current();
        const names = fileSystem.xattrNames(findNode(fileSystem, path));
        return Buffer.from(names.map((name) => `${name}\0`).join(''), 'latin1');
      }),
  };
}

/** Of a name or an attribute that is not there, or of what cannot be done: part of normal life. */
class DeniedError extends Error {
  readonly errno: number;

  constructor(errno: number) {
    super();
    this.errno = errno;
  }
}

/** An exception that left this function would end the process. */
function answer<Value>(
  operation: string,
  path: string,
  reply: Callback<Value>,
  make: () => Value,
  errnoOf: (error: unknown) => number = toErrno,
): void {
  let value: Value | undefined;
  let errno = 0;
  try {
    value = make();
  } catch (error) {
    errno = error instanceof DeniedError ? error.errno : errnoOf(error);
    if (!(error instanceof DeniedError)) logFailure(error, operation, path);
  }
  reply(-errno, value);
}

/** A file that has just changed, or whose writer has just gone, can be opened when the file system is exchanged. */
function openWhenKnown(path: string, reply: Callback<number>, deadline: number, open: () => number): void {
  let error: unknown;
  try {
    reply(0, open());
    return;
  } catch (cause) {
    error = cause;
  }
  const mayPass = error instanceof Qcow2fsError && (error.code === 'STALE' || error.code === 'BUSY');
  if (mayPass && performance.now() < deadline)
    setTimeout(() => openWhenKnown(path, reply, deadline, open), OPEN_RETRY_MS);
  else
    answer('open', path, reply, () => {
      throw error;
    });
}

/** ESTALE (open(2), "stale file handle") for a node that is gone: whatever has its path now is another file. */
function answerForOpenFile<Value>(operation: string, path: string, reply: Callback<Value>, make: () => Value): void {
  answer(operation, path, reply, make, (error) => {
    const errno = toErrno(error);
    return errno === ERRNO.ENOENT ? ERRNO.ESTALE : errno;
  });
}

/** What fails for another reason than that the node is gone may still be there. */
function hasNode(fileSystem: FileSystem, node: NodeId): boolean {
  try {
    fileSystem.parent(node);
    return true;
  } catch (error) {
    return !(error instanceof Qcow2fsError && error.code === 'NOT_FOUND');
  }
}

function findNode(fileSystem: FileSystem, path: string): NodeId {
  let node = ROOT_NODE_ID;
  for (const name of path.split('/')) {
    if (name === '') continue;
    const found = fileSystem.lookup(node, Buffer.from(name).toString('latin1'));
    if (found === undefined) throw new DeniedError(ERRNO.ENOENT);
    node = found;
  }
  return node;
}

function attributesOf(fileSystem: FileSystem, path: string): Attributes {
  return fileSystem.attributes(findNode(fileSystem, path));
}

function namesIn(fileSystem: FileSystem, path: string): string[] {
  const entries = fileSystem.entries(findNode(fileSystem, path));
  return ['.', '..', ...entries.map(({ name }) => Buffer.from(name, 'latin1').toString())];
}

function targetOf(fileSystem: FileSystem, path: string): string {
  return fileSystem.readlink(findNode(fileSystem, path)).toString();
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
