/** A small file system in memory, for tests of the protocol. */

import { Qcow2fsError } from '../../src/errors.ts';
import {
  type Attributes,
  type DirectoryEntry,
  type FileSystem,
  type FileSystemStatistics,
  type NodeId,
  type OpenFileKind,
  ROOT_NODE_ID,
  type WritableFileSystem,
} from '../../src/filesystem/file-system.ts';

export const DISK_NODE = 2;
export const FOLDER_NODE = 3;
export const LINK_NODE = 4;
export const INFO_NODE = 5;
/** Every access to it fails with an error that is no Qcow2fsError. */
export const BROKEN_NODE = 6;
/** Its attributes are fine, but not its contents. */
export const DAMAGED_NODE = 7;

/** 0x0000 .. 0x1000 hole, 0x1000 .. 0x2000 data, hole to the end. */
export const DISK_BYTES = 0x2800;
export const DATA_START = 0x1000;
export const DATA_END = 0x2000;

const TIME = { seconds: 0x65000000, nanoseconds: 0x12345 };

interface MemoryNode extends Partial<Attributes> {
  readonly kind: Attributes['kind'];
  readonly parent: NodeId;
  readonly name: string;
  readonly contents?: Buffer;
}

const NODES: Readonly<Record<NodeId, MemoryNode>> = {
  [ROOT_NODE_ID]: { kind: 'directory', parent: ROOT_NODE_ID, name: '', permissions: 0o755, linkCount: 3 },
  [DISK_NODE]: {
    kind: 'file',
    parent: ROOT_NODE_ID,
    name: 'disk.raw',
    contents: makeDisk(),
    allocatedBytes: DATA_END - DATA_START,
  },
  [FOLDER_NODE]: { kind: 'directory', parent: ROOT_NODE_ID, name: 'gr\u00fcn', permissions: 0o755 },
  [LINK_NODE]: { kind: 'symlink', parent: ROOT_NODE_ID, name: 'link', permissions: 0o777, sizeBytes: 4 },
  [INFO_NODE]: { kind: 'file', parent: FOLDER_NODE, name: 'info.json', contents: Buffer.from('{"a":1}\n') },
  [BROKEN_NODE]: { kind: 'file', parent: FOLDER_NODE, name: 'broken' },
  [DAMAGED_NODE]: { kind: 'file', parent: FOLDER_NODE, name: 'damaged', sizeBytes: 512 },
};

export class MemoryFileSystem implements FileSystem {
  lookup(parent: NodeId, name: string): NodeId | undefined {
    return this.entries(parent).find((entry) => entry.name === name)?.nodeId;
  }

  attributes(nodeId: NodeId): Attributes {
    const node = nodeOf(nodeId);
    return {
      nodeId,
      kind: node.kind,
      permissions: node.permissions ?? 0o444,
      linkCount: node.linkCount ?? 1,
      uid: 0x3e8,
      gid: 0x3e9,
      sizeBytes: node.sizeBytes ?? node.contents?.length ?? 0,
      allocatedBytes: node.allocatedBytes ?? node.contents?.length ?? 0,
      time: TIME,
    };
  }

  entries(directory: NodeId): readonly DirectoryEntry[] {
    return Object.entries(NODES)
      .map(([id, node]) => ({ ...node, nodeId: Number(id) }))
      .filter(({ nodeId, parent }) => parent === directory && nodeId !== ROOT_NODE_ID);
  }

  parent(node: NodeId): NodeId {
    return nodeOf(node).parent;
  }

  open(node: NodeId): OpenFileKind {
    if (node === DAMAGED_NODE) throw new Qcow2fsError('STALE', 'the image has changed');
    return 'steady';
  }

  read(node: NodeId, target: Buffer, targetOffset: number, offset: number, length: number): number {
    const { contents } = nodeOf(node);
    if (contents === undefined) throw new Qcow2fsError('DAMAGED', 'cannot be read');
    return offset >= contents.length ? 0 : contents.copy(target, targetOffset, offset, offset + length);
  }

  seekData(_node: NodeId, offset: number): number | undefined {
    return offset < DATA_END ? Math.max(offset, DATA_START) : undefined;
  }

  seekHole(_node: NodeId, offset: number): number {
    return offset >= DATA_START && offset < DATA_END ? DATA_END : offset;
  }

  readlink(_node: NodeId): Buffer {
    return Buffer.from('gr\u00fcn', 'latin1');
  }

  xattr(node: NodeId, name: string): Buffer | undefined {
    return node === FOLDER_NODE && name === 'user.qcow2.name' ? Buffer.from('green') : undefined;
  }

  xattrNames(node: NodeId): readonly string[] {
    return node === FOLDER_NODE ? ['user.qcow2.name'] : [];
  }

  statistics(): FileSystemStatistics {
    return { totalBytes: 0x5001, nodeCount: 7 };
  }
}

/** Its disk can be written, up to an offset from which on there is no room. */
export class WritableMemoryFileSystem extends MemoryFileSystem implements WritableFileSystem {
  readonly disk = Buffer.alloc(DISK_BYTES, 1);
  readonly synced: NodeId[] = [];
  fullFrom = DISK_BYTES;

  override attributes(nodeId: NodeId): Attributes {
    const attributes = super.attributes(nodeId);
    return nodeId === DISK_NODE ? { ...attributes, permissions: 0o644 } : attributes;
  }

  write(node: NodeId, source: Buffer, sourceOffset: number, offset: number, length: number): number {
    if (node !== DISK_NODE) throw new Qcow2fsError('READ_ONLY', 'cannot be written');
    if (Math.min(offset + length, DISK_BYTES) > this.fullFrom) throw new Qcow2fsError('NO_SPACE', 'full');
    return source.copy(this.disk, offset, sourceOffset, sourceOffset + length);
  }

  discard(_node: NodeId, offset: number, length: number): void {
    this.disk.fill(0, offset, offset + length);
  }

  sync(node: NodeId): void {
    this.synced.push(node);
  }
}

function nodeOf(node: NodeId): MemoryNode {
  if (node === BROKEN_NODE) throw new TypeError('a bug in the file system');
  const found = NODES[node];
  if (found === undefined) throw new Qcow2fsError('NOT_FOUND', `no node ${node}`);
  return found;
}

function makeDisk(): Buffer {
  const disk = Buffer.alloc(DISK_BYTES);
  for (let offset = DATA_START; offset < DATA_END; offset++) disk[offset] = offset % 251;
  return disk;
}
