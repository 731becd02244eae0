/** Several trees in one mount: a root directory with a folder for each. */

import {
  type Attributes,
  type DirectoryEntry,
  type FileSystem,
  type FileSystemStatistics,
  type NodeId,
  type OpenFileKind,
  ROOT_NODE_ID,
} from '../filesystem/file-system.ts';
import { noSuchNode } from './node-ids.ts';

/**
 * A tree has a block of 2^44 inode numbers, 0 of which is not used: that is 2^28 for whatever has contents, enough for one
 * change in each second of eight years. Block 0 is the root's, and block n the n-th tree's, so that no node moves when
 * another tree changes.
 */
const BLOCK = 2 ** 44;
/** Inode numbers are below 2^53. */
export const MAX_FOLDER_COUNT = 2 ** 9 - 1;

export interface ImageFolder {
  /** No two alike; latin1. */
  readonly name: string;
  readonly tree: FileSystem;
}

/** Of the root directory. */
export type RootAttributes = Pick<Attributes, 'permissions' | 'uid' | 'gid'>;

export class ImageFolders implements FileSystem {
  readonly #trees: readonly FileSystem[];
  readonly #root: Attributes;
  readonly #entries: readonly DirectoryEntry[];
  readonly #nodeOfName: ReadonlyMap<string, NodeId>;

  constructor(folders: readonly ImageFolder[], root: RootAttributes) {
    this.#trees = folders.map(({ tree }) => tree);
    this.#entries = folders.map(({ name }, index) => ({
      name,
      nodeId: outerNode(index, ROOT_NODE_ID),
      kind: 'directory' as const,
    }));
    this.#nodeOfName = new Map(this.#entries.map(({ name, nodeId }) => [name, nodeId]));
    const times = this.#trees.map((tree) => tree.attributes(ROOT_NODE_ID).time);
    this.#root = {
      ...root,
      nodeId: ROOT_NODE_ID,
      kind: 'directory',
      linkCount: 2 + folders.length,
      sizeBytes: 0,
      allocatedBytes: 0,
      time: times.reduce((latest, time) => (time.seconds > latest.seconds ? time : latest)),
    };
  }

  lookup(parent: NodeId, name: string): NodeId | undefined {
    if (parent === ROOT_NODE_ID) return this.#nodeOfName.get(name);
    const found = this.#tree(parent).lookup(innerNode(parent), name);
    return found === undefined ? undefined : outerNode(indexOf(parent), found);
  }

  attributes(node: NodeId): Attributes {
    if (node === ROOT_NODE_ID) return this.#root;
    return { ...this.#tree(node).attributes(innerNode(node)), nodeId: node };
  }

  entries(directory: NodeId): readonly DirectoryEntry[] {
    if (directory === ROOT_NODE_ID) return this.#entries;
    const index = indexOf(directory);
    const entries = this.#tree(directory).entries(innerNode(directory));
    return entries.map((entry) => ({ ...entry, nodeId: outerNode(index, entry.nodeId) }));
  }

  parent(node: NodeId): NodeId {
    const inner = innerNode(node);
    if (node === ROOT_NODE_ID || inner === ROOT_NODE_ID) return ROOT_NODE_ID;
    return outerNode(indexOf(node), this.#tree(node).parent(inner));
  }

  open(node: NodeId): OpenFileKind {
    return this.#tree(node).open(innerNode(node));
  }

  read(node: NodeId, target: Buffer, targetOffset: number, offset: number, length: number): number {
    return this.#tree(node).read(innerNode(node), target, targetOffset, offset, length);
  }

  seekData(node: NodeId, offset: number): number | undefined {
    return this.#tree(node).seekData(innerNode(node), offset);
  }

  seekHole(node: NodeId, offset: number): number {
    return this.#tree(node).seekHole(innerNode(node), offset);
  }

  readlink(node: NodeId): Buffer {
    return this.#tree(node).readlink(innerNode(node));
  }

  xattr(node: NodeId, name: string): Buffer | undefined {
    return node === ROOT_NODE_ID ? undefined : this.#tree(node).xattr(innerNode(node), name);
  }

  xattrNames(node: NodeId): readonly string[] {
    return node === ROOT_NODE_ID ? [] : this.#tree(node).xattrNames(innerNode(node));
  }

  statistics(): FileSystemStatistics {
    let [totalBytes, nodeCount] = [0, 1];
    for (const tree of this.#trees) {
      const statistics = tree.statistics();
      totalBytes += statistics.totalBytes;
      nodeCount += statistics.nodeCount;
    }
    return { totalBytes, nodeCount };
  }

  /** @throws Qcow2fsError NOT_FOUND for a node of no tree. */
  #tree(node: NodeId): FileSystem {
    const tree = this.#trees[indexOf(node)];
    if (tree === undefined) throw noSuchNode(node);
    return tree;
  }
}

function outerNode(index: number, inner: NodeId): NodeId {
  return (index + 1) * BLOCK + inner;
}

/** The tree's place; -1 for the root's block. */
function indexOf(node: NodeId): number {
  return Math.floor(node / BLOCK) - 1;
}

function innerNode(node: NodeId): NodeId {
  return node % BLOCK;
}
