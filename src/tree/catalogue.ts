/** What the tree is made from. Immutable: a changed image gets a new catalogue. */

import type { Sequence } from '../common/sequence.ts';
import type { Timestamp } from '../filesystem/file-system.ts';

/** The permissions that follow the image files: who may not read the image may not read the tree. */
export interface Ownership {
  /** Read permission bits (0o444 at most). */
  readonly permissions: number;
  readonly uid: number;
  readonly gid: number;
}

export interface SnapshotEntry {
  /** One character per byte (latin1), as the name. */
  readonly id: string;
  readonly name: string;
  readonly time: Timestamp;
  readonly sizeBytes: number;
  /** 0 for a snapshot without VM state. */
  readonly vmStateBytes: number;
}

export interface Catalogue {
  readonly ownership: Ownership;
  /** mtime of the image: the time of all that is not a snapshot's. */
  readonly time: Timestamp;
  /** Virtual size of the current state. */
  readonly currentSizeBytes: number;
  /** In the order of their blocks: later ones came later. */
  readonly snapshots: Sequence<SnapshotEntry>;
  readonly blocks: Blocks;
}

/** The blocks of inode numbers: see `node-ids.ts`. No two alike, and none that was ever other contents'. */
export interface Blocks {
  readonly imageJson: number;
  readonly current: number;
  /** Those of `Catalogue.snapshots`, ascending. */
  readonly snapshots: ArrayLike<number>;
}

/** A file whose bytes come from the image. What it gives is exact, or it throws. */
export interface StateFile {
  readonly sizeBytes: number;
  /** Reads exactly `length` bytes at `offset`, all within the file. */
  readAt(target: Buffer, targetOffset: number, offset: number, length: number): void;
  /** As in `FileSystem`. */
  seekData(offset: number): number | undefined;
  seekHole(offset: number): number;
  /** Bytes that are not holes or zeros. */
  allocatedBytes(): number;
}

/** One whose bytes can be changed. */
export interface WritableStateFile extends StateFile {
  /** Milliseconds since 1970 of the last change; 0 if there was none. */
  readonly writtenAtMs: number;
  /** As `WritableDisk`. */
  writeAt(source: Buffer, sourceOffset: number, offset: number, length: number): void;
  discardAt(offset: number, length: number): void;
  sync(): void;
}

/** A volume, with the names that it is known by besides; each latin1, undefined if it has none. */
export interface VolumeEntry {
  readonly name: string;
  readonly sizeBytes: number;
  readonly label: string | undefined;
  readonly uuid: string | undefined;
  readonly partitionLabel: string | undefined;
}

/** What the files of the tree hold. States: 0 is the current one, n is `catalogue.snapshots.at(n - 1)`. */
export interface Contents {
  /** @throws Qcow2fsError when the state cannot be read at all. */
  disk(state: number): StateFile;
  /** The VM state of a snapshot that has one. */
  vmState(state: number): StateFile;
  /** What is on the disk of a state, to be shown below `volumes/`. @throws Qcow2fsError STALE, DAMAGED. */
  volumes(state: number): readonly VolumeEntry[];
  /** The bytes of a volume: its place in `volumes`. */
  volume(state: number, index: number): StateFile;
  /** True if the state may have other bytes the next time it is read. */
  isVolatile(state: number): boolean;
  /** @throws Qcow2fsError BUSY or STALE: what the state holds cannot be told now. */
  requireReadable(state: number): void;
  /** The bytes of `image.json`. */
  imageJson(): Buffer;
  /** The bytes of a state's `info.json`, the same ones each time. @throws Qcow2fsError BUSY, STALE: they cannot be told now. */
  infoJson(state: number): Buffer;
}
