/** The file system that a mount shows: a catalogue and the contents of its files. */

import type { Disk } from '../disk/disk.ts';
import { seekData, seekHole } from '../disk/walk.ts';
import { Qcow2fsError } from '../errors.ts';
import {
  type Attributes,
  type DirectoryEntry,
  type FileSystem,
  type FileSystemStatistics,
  type NodeId,
  type NodeKind,
  ROOT_NODE_ID,
} from '../filesystem/file-system.ts';
import { type Catalogue, type Contents, snapshotOf } from './catalogue.ts';
import { createDirectories, type Directories, type Directory } from './directories.ts';
import {
  BY_DATE,
  BY_ID,
  IMAGE_JSON,
  isTreeDirectory,
  noSuchNode,
  SLOT,
  SNAPSHOTS,
  slotOf,
  stateNode,
  stateOf,
} from './node-ids.ts';

const XATTR_NAME = 'user.qcow2.name';
const XATTR_ID = 'user.qcow2.id';
const XATTR_STATE = 'user.qcow2.state';

export class Tree implements FileSystem {
  readonly #catalogue: Catalogue;
  readonly #contents: Contents;
  readonly #directories: Directories;
  #totalBytes: number | undefined;

  constructor(catalogue: Catalogue, contents: Contents) {
    this.#catalogue = catalogue;
    this.#contents = contents;
    this.#directories = createDirectories(catalogue);
  }

  lookup(parent: NodeId, name: string): NodeId | undefined {
    return this.#directory(parent).nodeOfName.get(name);
  }

  attributes(node: NodeId): Attributes {
    const kind = this.#kind(node);
    const state = stateOf(node);
    const { permissions, uid, gid } = this.#catalogue.ownership;
    const sizeBytes = kind === 'directory' ? 0 : this.#sizeBytes(node, kind);
    return {
      nodeId: node,
      kind,
      // Who may read may list; the permissions of a symlink are never looked at.
      permissions: kind === 'file' ? permissions : kind === 'symlink' ? 0o777 : permissions | (permissions >> 2),
      linkCount: kind === 'directory' ? 2 + this.#subdirectoryCount(node) : 1,
      uid,
      gid,
      sizeBytes,
      allocatedBytes: this.#isDisk(node) ? this.#allocatedBytes(node, sizeBytes) : sizeBytes,
      time: snapshotOf(this.#catalogue, state)?.time ?? this.#catalogue.time,
    };
  }

  entries(directory: NodeId): readonly DirectoryEntry[] {
    return this.#directory(directory).entries;
  }

  parent(node: NodeId): NodeId {
    const kind = this.#kind(node);
    const state = stateOf(node);
    if (state < 0) return ROOT_NODE_ID;
    if (kind === 'symlink') return slotOf(node) === SLOT.byIdLink ? BY_ID : BY_DATE;
    if (kind === 'file') return stateNode(state, SLOT.directory);
    return state === 0 ? ROOT_NODE_ID : SNAPSHOTS;
  }

  open(node: NodeId): void {
    if (this.#kind(node) !== 'file') throw noSuchNode(node);
    if (!this.#isDisk(node)) return;
    this.#disk(node);
    this.#contents.requireUnchanged();
  }

  read(node: NodeId, target: Buffer, targetOffset: number, offset: number, length: number): number {
    if (!this.#isDisk(node)) return this.#text(node).copy(target, targetOffset, offset, offset + length);
    const disk = this.#disk(node);
    const count = Math.max(0, Math.min(length, disk.sizeBytes - offset));
    if (count > 0) disk.readAt(target, targetOffset, offset, count);
    this.#contents.requireUnchanged();
    return count;
  }

  seekData(node: NodeId, offset: number): number | undefined {
    if (!this.#isDisk(node)) return offset;
    const found = seekData(this.#disk(node), offset);
    this.#contents.requireUnchanged();
    return found;
  }

  seekHole(node: NodeId, offset: number): number {
    if (!this.#isDisk(node)) return this.#text(node).length;
    const found = seekHole(this.#disk(node), offset);
    this.#contents.requireUnchanged();
    return found;
  }

  readlink(node: NodeId): Buffer {
    if (this.#kind(node) !== 'symlink') throw noSuchNode(node);
    return Buffer.from(`../snapshots/${this.#directories.snapshotFileName(stateOf(node))}`, 'latin1');
  }

  xattr(node: NodeId, name: string): Buffer | undefined {
    if (!this.xattrNames(node).includes(name)) return undefined;
    const snapshot = snapshotOf(this.#catalogue, stateOf(node));
    if (name === XATTR_STATE) return Buffer.from(snapshot === undefined ? 'current' : `id:${snapshot.id}`, 'latin1');
    return Buffer.from((name === XATTR_NAME ? snapshot?.name : snapshot?.id) ?? '', 'latin1');
  }

  xattrNames(node: NodeId): readonly string[] {
    const state = stateOf(node);
    if (state < 0 || this.#kind(node) === 'symlink') return [];
    return state === 0 ? [XATTR_STATE] : [XATTR_NAME, XATTR_ID, XATTR_STATE];
  }

  statistics(): FileSystemStatistics {
    this.#totalBytes ??= sizeOfAllStates(this.#catalogue);
    return { totalBytes: this.#totalBytes, nodeCount: 8 + this.#catalogue.snapshots.length * 5 };
  }

  /** True for the files whose bytes come from the image: `disk.raw` and `vmstate.bin`. */
  #isDisk(node: NodeId): boolean {
    const state = stateOf(node);
    if (state < 0 || !this.#hasState(node)) return false;
    return slotOf(node) === SLOT.disk || (slotOf(node) === SLOT.vmState && this.#vmStateBytes(state) > 0);
  }

  #disk(node: NodeId): Disk {
    const state = stateOf(node);
    return slotOf(node) === SLOT.disk ? this.#contents.disk(state) : this.#contents.vmState(state);
  }

  #vmStateBytes(state: number): number {
    return snapshotOf(this.#catalogue, state)?.vmStateBytes ?? 0;
  }

  /** True if the node is the tree's own or of a state that exists. */
  #hasState(node: NodeId): boolean {
    return stateOf(node) <= this.#catalogue.snapshots.length;
  }

  /** @throws Qcow2fsError NOT_FOUND for a node that does not exist. */
  #kind(node: NodeId): NodeKind {
    if (isTreeDirectory(node)) return 'directory';
    if (node === IMAGE_JSON) return 'file';
    const state = stateOf(node);
    if (state < 0 || !this.#hasState(node)) throw noSuchNode(node);
    const slot = slotOf(node);
    if (slot === SLOT.directory) return 'directory';
    if (slot === SLOT.info || this.#isDisk(node)) return 'file';
    if (state > 0 && (slot === SLOT.byIdLink || slot === SLOT.byDateLink)) return 'symlink';
    throw noSuchNode(node);
  }

  #directory(node: NodeId): Directory {
    const found = this.#directories.directory(node);
    if (found === undefined) throw noSuchNode(node);
    return found;
  }

  #subdirectoryCount(node: NodeId): number {
    if (node === SNAPSHOTS) return this.#catalogue.snapshots.length;
    if (node !== ROOT_NODE_ID) return 0;
    return this.#directory(node).entries.filter(({ kind }) => kind === 'directory').length;
  }

  #sizeBytes(node: NodeId, kind: NodeKind): number {
    if (kind === 'symlink') return this.readlink(node).length;
    if (!this.#isDisk(node)) return this.#text(node).length;
    if (slotOf(node) === SLOT.vmState) return this.#vmStateBytes(stateOf(node));
    return snapshotOf(this.#catalogue, stateOf(node))?.sizeBytes ?? this.#catalogue.currentSizeBytes;
  }

  /** All of it for a disk that cannot be read: a copy must meet the error, not skip a hole. */
  #allocatedBytes(node: NodeId, sizeBytes: number): number {
    try {
      const allocatedBytes = this.#disk(node).allocatedBytes();
      this.#contents.requireUnchanged();
      return allocatedBytes;
    } catch (error) {
      if (error instanceof Qcow2fsError) return sizeBytes;
      throw error;
    }
  }

  #text(node: NodeId): Buffer {
    if (node === IMAGE_JSON) return this.#contents.imageJson();
    if (slotOf(node) === SLOT.info && stateOf(node) >= 0 && this.#hasState(node)) {
      return this.#contents.infoJson(stateOf(node));
    }
    throw noSuchNode(node);
  }
}

function sizeOfAllStates({ snapshots, currentSizeBytes }: Catalogue): number {
  let sum = currentSizeBytes;
  for (const { sizeBytes } of snapshots) sum += sizeBytes;
  return sum;
}
