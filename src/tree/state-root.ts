/** One state of a tree as a file system of its own, with files that can be written. */

import { Qcow2fsError } from '../errors.ts';
import {
  type Attributes,
  type DirectoryEntry,
  type FileSystemStatistics,
  type NodeId,
  type OpenFileKind,
  ROOT_NODE_ID,
  type WritableFileSystem,
} from '../filesystem/file-system.ts';
import type { Ownership, StateFile, WritableStateFile } from './catalogue.ts';
import { CURRENT, nodeInBlock, noSuchNode, SLOT } from './node-ids.ts';
import type { Tree } from './tree.ts';

/** The directory of a state in its tree: that of the current state has a node of its own. */
export function stateDirectoryNode(block: number, isCurrent: boolean): NodeId {
  return isCurrent ? CURRENT : nodeInBlock(block, SLOT.directory);
}

/** A state that is gone leaves an empty root directory; its nodes are nobody's then, and its open files are stale. */
export class StateRoot implements WritableFileSystem {
  readonly #tree: Tree;
  readonly #top: NodeId | undefined;
  readonly #ownership: Ownership;

  /** `top` is the directory of the state in the tree; undefined if the state is gone. */
  constructor(tree: Tree, top: NodeId | undefined, ownership: Ownership) {
    this.#tree = tree;
    this.#top = top;
    this.#ownership = ownership;
  }

  lookup(parent: NodeId, name: string): NodeId | undefined {
    if (this.#isEmptyRoot(parent)) return undefined;
    return this.#tree.lookup(this.#inner(parent), name);
  }

  attributes(node: NodeId): Attributes {
    if (this.#isEmptyRoot(node)) return this.#emptyRoot();
    const attributes = this.#tree.attributes(this.#inner(node));
    const file = attributes.kind === 'file' ? this.#writableFile(node) : undefined;
    return { ...attributes, ...(file === undefined ? {} : changesOf(attributes, file)), nodeId: node };
  }

  entries(directory: NodeId): readonly DirectoryEntry[] {
    return this.#isEmptyRoot(directory) ? [] : this.#tree.entries(this.#inner(directory));
  }

  parent(node: NodeId): NodeId {
    if (node === ROOT_NODE_ID) return ROOT_NODE_ID;
    const parent = this.#tree.parent(this.#inner(node));
    return parent === this.#top ? ROOT_NODE_ID : parent;
  }

  /** Pages of one window on the bytes would not follow what is written through another one. */
  open(node: NodeId): OpenFileKind {
    this.#tree.open(this.#inner(node));
    return 'volatile';
  }

  read(node: NodeId, target: Buffer, targetOffset: number, offset: number, length: number): number {
    return this.#tree.read(this.#inner(node), target, targetOffset, offset, length);
  }

  seekData(node: NodeId, offset: number): number | undefined {
    return this.#tree.seekData(this.#inner(node), offset);
  }

  seekHole(node: NodeId, offset: number): number {
    return this.#tree.seekHole(this.#inner(node), offset);
  }

  readlink(node: NodeId): Buffer {
    return this.#tree.readlink(this.#inner(node));
  }

  xattr(node: NodeId, name: string): Buffer | undefined {
    return this.#isEmptyRoot(node) ? undefined : this.#tree.xattr(this.#inner(node), name);
  }

  xattrNames(node: NodeId): readonly string[] {
    return this.#isEmptyRoot(node) ? [] : this.#tree.xattrNames(this.#inner(node));
  }

  statistics(): FileSystemStatistics {
    return this.#tree.statistics();
  }

  write(node: NodeId, source: Buffer, sourceOffset: number, offset: number, length: number): number {
    const file = this.#requireWritable(node);
    const count = Math.max(0, Math.min(length, file.sizeBytes - offset));
    if (count > 0) file.writeAt(source, sourceOffset, offset, count);
    return count;
  }

  discard(node: NodeId, offset: number, length: number): void {
    const file = this.#requireWritable(node);
    const count = Math.min(length, file.sizeBytes - offset);
    if (count > 0) file.discardAt(offset, count);
  }

  sync(node: NodeId): void {
    this.#writableFile(node)?.sync();
  }

  #requireWritable(node: NodeId): WritableStateFile {
    const file = this.#writableFile(node);
    if (file === undefined) throw new Qcow2fsError('READ_ONLY', 'only disk.raw and volumes can be written');
    return file;
  }

  #writableFile(node: NodeId): WritableStateFile | undefined {
    const file = this.#tree.stateFile(this.#inner(node));
    return file !== undefined && isWritableFile(file) ? file : undefined;
  }

  #isEmptyRoot(node: NodeId): boolean {
    return node === ROOT_NODE_ID && this.#top === undefined;
  }

  /** @throws Qcow2fsError NOT_FOUND for what is not of the state. */
  #inner(node: NodeId): NodeId {
    if (this.#top === undefined) throw noSuchNode(node);
    return node === ROOT_NODE_ID ? this.#top : node;
  }

  #emptyRoot(): Attributes {
    const { permissions, uid, gid } = this.#ownership;
    return {
      nodeId: ROOT_NODE_ID,
      kind: 'directory',
      permissions: permissions | (permissions >> 2),
      linkCount: 2,
      uid,
      gid,
      sizeBytes: 0,
      allocatedBytes: 0,
      time: { seconds: 0, nanoseconds: 0 },
    };
  }
}

function isWritableFile(file: StateFile): file is WritableStateFile {
  return 'writeAt' in file;
}

/** Its owner alone may write it: who mounts a file system on it must not have it changed below by just anybody. */
function changesOf({ permissions }: Attributes, { writtenAtMs }: WritableStateFile): Partial<Attributes> {
  const seconds = Math.floor(writtenAtMs / 1000);
  const nanoseconds = Math.floor((writtenAtMs - seconds * 1000) * 1e6);
  return {
    permissions: permissions | ((permissions & 0o400) >> 1),
    ...(writtenAtMs === 0 ? {} : { time: { seconds, nanoseconds } }),
  };
}
