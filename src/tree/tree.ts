/** The file system that a mount shows: a catalogue and the contents of its files. */

import { Qcow2fsError } from '../errors.ts';
import {
  type Attributes,
  type DirectoryEntry,
  type FileSystem,
  type FileSystemStatistics,
  type NodeId,
  type NodeKind,
  type OpenFileKind,
  ROOT_NODE_ID,
} from '../filesystem/file-system.ts';
import type { Catalogue, Contents, SnapshotEntry, StateFile } from './catalogue.ts';
import { createDirectories, type Directories, type Directory } from './directories.ts';
import {
  BY_DATE,
  BY_ID,
  blockOf,
  CURRENT,
  isTreeDirectory,
  noSuchNode,
  SLOT,
  SNAPSHOTS,
  slotOf,
  VOLUME_PART,
  volumeOfSlot,
} from './node-ids.ts';
import { VolumeDirectories } from './volume-directories.ts';

/** What `#stateOf` gives for nodes that are of no state. */
const NO_STATE = -1;

const XATTR_NAME = 'user.qcow2.name';
const XATTR_ID = 'user.qcow2.id';
const XATTR_STATE = 'user.qcow2.state';

export class Tree implements FileSystem {
  readonly #catalogue: Catalogue;
  readonly #contents: Contents;
  readonly #directories: Directories;
  readonly #volumes: (VolumeDirectories | undefined)[] = [];

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
    const { permissions, uid, gid } = this.#catalogue.ownership;
    const sizeBytes = kind === 'directory' ? 0 : this.#sizeBytes(node, kind);
    return {
      nodeId: node,
      kind,
      // Who may read may list; the permissions of a symlink are never looked at.
      permissions: kind === 'file' ? permissions : kind === 'symlink' ? 0o777 : permissions | (permissions >> 2),
      linkCount: kind === 'directory' ? this.#linkCount(node) : 1,
      uid,
      gid,
      sizeBytes,
      allocatedBytes: this.#isFromImage(node) ? this.#allocatedBytes(node, sizeBytes) : sizeBytes,
      time: this.#snapshot(this.#stateOf(node))?.time ?? this.#catalogue.time,
    };
  }

  entries(directory: NodeId): readonly DirectoryEntry[] {
    return this.#directory(directory).entries;
  }

  parent(node: NodeId): NodeId {
    const kind = this.#kind(node);
    const state = this.#stateOf(node);
    if (state === NO_STATE) return ROOT_NODE_ID;
    const slot = slotOf(node);
    const volume = volumeOfSlot(slot);
    if (volume !== undefined) return sibling(node, VolumeDirectories.directorySlotOf(volume.part));
    if (kind === 'symlink') return slot === SLOT.byIdLink ? BY_ID : BY_DATE;
    if (slot === SLOT.directory) return SNAPSHOTS;
    if (kind === 'directory' && slot !== SLOT.volumes) return sibling(node, SLOT.volumes);
    return state === 0 ? CURRENT : sibling(node, SLOT.directory);
  }

  open(node: NodeId): OpenFileKind {
    if (this.#kind(node) !== 'file') throw noSuchNode(node);
    const state = this.#stateOf(node);
    // What describes a state is as little to be relied on as the state.
    if (state !== NO_STATE) this.#contents.requireReadable(state);
    if (!this.#isFromImage(node)) return slotOf(node) === SLOT.info ? 'volatile' : 'steady';
    this.#file(node);
    return this.#contents.isVolatile(state) ? 'volatile' : 'steady';
  }

  read(node: NodeId, target: Buffer, targetOffset: number, offset: number, length: number): number {
    if (!this.#isFromImage(node)) return this.#text(node).copy(target, targetOffset, offset, offset + length);
    const file = this.#file(node);
    const count = Math.max(0, Math.min(length, file.sizeBytes - offset));
    if (count > 0) file.readAt(target, targetOffset, offset, count);
    return count;
  }

  seekData(node: NodeId, offset: number): number | undefined {
    return this.#isFromImage(node) ? this.#file(node).seekData(offset) : offset;
  }

  seekHole(node: NodeId, offset: number): number {
    return this.#isFromImage(node) ? this.#file(node).seekHole(offset) : this.#text(node).length;
  }

  readlink(node: NodeId): Buffer {
    if (this.#kind(node) !== 'symlink') throw noSuchNode(node);
    const volume = volumeOfSlot(slotOf(node));
    if (volume !== undefined) return Buffer.from(this.#volumesOf(node).targetOf(volume.index), 'latin1');
    return Buffer.from(`../snapshots/${this.#directories.snapshotFileName(this.#stateOf(node))}`, 'latin1');
  }

  xattr(node: NodeId, name: string): Buffer | undefined {
    if (!this.xattrNames(node).includes(name)) return undefined;
    const snapshot = this.#snapshot(this.#stateOf(node));
    if (name === XATTR_STATE) return Buffer.from(snapshot === undefined ? 'current' : `id:${snapshot.id}`, 'latin1');
    return Buffer.from((name === XATTR_NAME ? snapshot?.name : snapshot?.id) ?? '', 'latin1');
  }

  xattrNames(node: NodeId): readonly string[] {
    const kind = this.#kind(node);
    if (node === CURRENT) return [XATTR_STATE];
    const state = this.#stateOf(node);
    if (state === NO_STATE || kind === 'symlink') return [];
    return state === 0 ? [XATTR_STATE] : [XATTR_NAME, XATTR_ID, XATTR_STATE];
  }

  statistics(): FileSystemStatistics {
    const { snapshots, currentSizeBytes } = this.#catalogue;
    let totalBytes = currentSizeBytes;
    for (const { sizeBytes } of snapshots) totalBytes += sizeBytes;
    return { totalBytes, nodeCount: 8 + snapshots.length * 5 };
  }

  /** The file of the image that a node is; undefined for any other node. */
  stateFile(node: NodeId): StateFile | undefined {
    return this.#isFromImage(node) ? this.#file(node) : undefined;
  }

  /** The state that a node is of: 0 for the current one, n for a snapshot, or `NO_STATE`. */
  #stateOf(node: NodeId): number {
    const block = blockOf(node);
    const { current, snapshots } = this.#catalogue.blocks;
    if (block === current) return 0;
    let [low, high] = [0, snapshots.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((snapshots[middle] ?? 0) < block) low = middle + 1;
      else high = middle;
    }
    return snapshots[low] === block ? low + 1 : NO_STATE;
  }

  /** undefined for the current state and for none. */
  #snapshot(state: number): SnapshotEntry | undefined {
    return state > 0 ? this.#catalogue.snapshots.at(state - 1) : undefined;
  }

  /** True for the files whose bytes come from the image: `disk.raw`, `vmstate.bin` and volumes. */
  #isFromImage(node: NodeId): boolean {
    const slot = slotOf(node);
    const volume = volumeOfSlot(slot);
    if (slot !== SLOT.disk && slot !== SLOT.vmState && volume?.part !== VOLUME_PART.file) return false;
    const state = this.#stateOf(node);
    if (state === NO_STATE) return false;
    if (volume !== undefined) return this.#volumesOf(node).has(volume.index, volume.part);
    return slot === SLOT.disk || this.#vmStateBytes(state) > 0;
  }

  #file(node: NodeId): StateFile {
    const state = this.#stateOf(node);
    const slot = slotOf(node);
    const volume = volumeOfSlot(slot);
    if (volume !== undefined) return this.#contents.volume(state, volume.index);
    return slot === SLOT.disk ? this.#contents.disk(state) : this.#contents.vmState(state);
  }

  /** Those of the state of a node, found when they are first asked for. */
  #volumesOf(node: NodeId): VolumeDirectories {
    const state = this.#stateOf(node);
    let volumes = this.#volumes[state];
    if (volumes === undefined) {
      volumes = new VolumeDirectories(blockOf(node), this.#contents.volumes(state));
      this.#volumes[state] = volumes;
    }
    return volumes;
  }

  #vmStateBytes(state: number): number {
    return this.#snapshot(state)?.vmStateBytes ?? 0;
  }

  /** @throws Qcow2fsError NOT_FOUND for a node that does not exist. */
  #kind(node: NodeId): NodeKind {
    if (isTreeDirectory(node)) return 'directory';
    if (this.#isImageJson(node)) return 'file';
    const state = this.#stateOf(node);
    if (state === NO_STATE) throw noSuchNode(node);
    const slot = slotOf(node);
    if (slot === SLOT.info || this.#isFromImage(node)) return 'file';
    if (slot === SLOT.volumes || (state > 0 && slot === SLOT.directory)) return 'directory';
    if (state > 0 && (slot === SLOT.byIdLink || slot === SLOT.byDateLink)) return 'symlink';
    const volume = volumeOfSlot(slot);
    if (volume !== undefined && this.#volumesOf(node).has(volume.index, volume.part)) return 'symlink';
    if (volume === undefined && this.#volumesOf(node).linkDirectory(slot) !== undefined) return 'directory';
    throw noSuchNode(node);
  }

  #isImageJson(node: NodeId): boolean {
    return slotOf(node) === SLOT.imageJson && blockOf(node) === this.#catalogue.blocks.imageJson;
  }

  #directory(node: NodeId): Directory {
    const own = this.#directories.directory(node);
    if (own !== undefined) return own;
    const state = this.#stateOf(node);
    if (state === NO_STATE) throw noSuchNode(node);
    const slot = slotOf(node);
    if (slot === SLOT.volumes) return this.#volumesOf(node).top;
    if (slot === SLOT.directory && state > 0) return this.#directories.snapshotDirectory(state);
    const links = volumeOfSlot(slot) === undefined ? this.#volumesOf(node).linkDirectory(slot) : undefined;
    if (links === undefined) throw noSuchNode(node);
    return links;
  }

  /** 1, which counts nothing, where the disk would have to be looked at to tell. */
  #linkCount(node: NodeId): number {
    if (node === SNAPSHOTS) return 2 + this.#catalogue.snapshots.length;
    if (node === ROOT_NODE_ID)
      return 2 + this.#directory(node).entries.filter(({ kind }) => kind === 'directory').length;
    // `volumes/` is what is in it.
    if (node === CURRENT || (!isTreeDirectory(node) && slotOf(node) === SLOT.directory)) return 3;
    return slotOf(node) === SLOT.volumes && !isTreeDirectory(node) ? 1 : 2;
  }

  #sizeBytes(node: NodeId, kind: NodeKind): number {
    if (kind === 'symlink') return this.readlink(node).length;
    if (!this.#isFromImage(node)) return this.#textBytes(node);
    const state = this.#stateOf(node);
    if (slotOf(node) === SLOT.vmState) return this.#vmStateBytes(state);
    if (slotOf(node) !== SLOT.disk) return this.#file(node).sizeBytes;
    return this.#snapshot(state)?.sizeBytes ?? this.#catalogue.currentSizeBytes;
  }

  /** All of it for a disk that cannot be read: a copy must meet the error, not skip a hole. */
  #allocatedBytes(node: NodeId, sizeBytes: number): number {
    try {
      return this.#file(node).allocatedBytes();
    } catch (error) {
      if (error instanceof Qcow2fsError) return sizeBytes;
      throw error;
    }
  }

  /**
   * 0 where the text cannot be told now, as for the files of proc(5). No reader takes that for its end: the text of a state is
   * not cached, since the kernel reads from its cache only as far as the size that it knows.
   */
  #textBytes(node: NodeId): number {
    try {
      return this.#text(node).length;
    } catch (error) {
      if (error instanceof Qcow2fsError && error.code !== 'NOT_FOUND') return 0;
      throw error;
    }
  }

  #text(node: NodeId): Buffer {
    if (this.#isImageJson(node)) return this.#contents.imageJson();
    const state = this.#stateOf(node);
    if (slotOf(node) === SLOT.info && state !== NO_STATE) return this.#contents.infoJson(state);
    throw noSuchNode(node);
  }
}

/** The node in the same block with this slot. */
function sibling(node: NodeId, slot: number): NodeId {
  return node - slotOf(node) + slot;
}
