/** What the tree is made from. Immutable: a changed image gets a new catalogue. */

import type { Sequence } from '../common/sequence.ts';
import type { Disk } from '../disk/disk.ts';
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
  /** In the order of the snapshot table. */
  readonly snapshots: Sequence<SnapshotEntry>;
}

/** The snapshot of a state; undefined for the current state and for what is none. */
export function snapshotOf({ snapshots }: Catalogue, state: number): SnapshotEntry | undefined {
  return state > 0 ? snapshots.at(state - 1) : undefined;
}

/** What the files of the tree hold. States: 0 is the current one, n is `catalogue.snapshots.at(n - 1)`. */
export interface Contents {
  /** @throws Qcow2fsError when the state cannot be read at all. */
  disk(state: number): Disk;
  /** The VM state of a snapshot that has one. */
  vmState(state: number): Disk;
  /** Throws if what was just read from a disk may not be the state's. */
  requireUnchanged(): void;
  /** The bytes of `image.json`. */
  imageJson(): Buffer;
  /** The bytes of a state's `info.json`. */
  infoJson(state: number): Buffer;
}
