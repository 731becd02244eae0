/**
 * Tells whether a snapshot of an image that is written to still was there when its bytes were read.
 *
 * QEMU deletes a snapshot in this order (qcow2_snapshot_delete, block/qcow2-snapshot.c): it writes a new table at a new place,
 * then the twelve bytes of the header that point to it, and only then frees clusters, so that others may use them. The
 * clusters and L2 tables of a snapshot that is there never change, but for bit 63 of their entries. So bytes are the
 * snapshot's if, after they were read, the header still points to the table where the snapshot's entry was found, and
 * then the entry still is the same. The header alone does not tell: when the newest snapshot is deleted and made again, the
 * table has the same place and length, and only the nanoseconds of the entry differ.
 */

import { Qcow2fsError } from '../errors.ts';
import { hasSameMeaning, snapshotFields } from './header-head.ts';
import type { Qcow2File } from './open-qcow2.ts';
import { readSnapshotTable, Snapshots, type SnapshotTable, snapshotIdentity } from './snapshots.ts';
import { decodeHeader } from './wire/header.ts';

/**
 * `alive`: what was read before the call is the snapshot's. `moved`: the snapshot is there, but its entry is elsewhere now;
 * read again. `gone`: it was deleted, or the image now means something else.
 */
export type Liveness = 'alive' | 'moved' | 'gone';

/** Where the entry of a snapshot was seen. */
interface Sighting {
  /** Of the header that pointed to it: see `snapshotFields`. */
  readonly fields: Buffer;
  readonly fileOffset: number;
  readonly entry: Buffer;
}

/** A table may be replaced while it is searched: a hundred times in a second were seen. */
const MAX_SEARCHES = 100;
/** How often a whole table must be found to be without the snapshot. */
const NEEDED_ABSENCES = 2;
/** How often a head that makes no sense is read: it may be half written. */
const MAX_HEAD_READS = 3;
const PAUSE_MS = 1;

export class SnapshotLiveness {
  readonly #file: Qcow2File;
  readonly #snapshots: Snapshots;
  readonly #sightings: (Sighting | undefined)[] = [];
  readonly #firstFields: Buffer;
  /** The last head that was found to mean the same as `#file`. */
  readonly #head: Buffer;
  readonly #headNow: Buffer;
  #entryNow = Buffer.alloc(0);

  /** `file` and `snapshots` are what an image with this head had (see `readHead`). */
  constructor(file: Qcow2File, head: Buffer, snapshots: Snapshots) {
    this.#file = file;
    this.#snapshots = snapshots;
    this.#head = Buffer.from(head);
    this.#headNow = Buffer.alloc(head.length);
    this.#firstFields = Buffer.from(snapshotFields(head));
  }

  /**
   * Looks at the snapshot with this place in `snapshots`.
   * @throws Qcow2fsError IO.
   */
  check(index: number): Liveness {
    if (!this.#readHead()) return 'gone';
    const sighting = this.#sightings[index] ?? this.#firstSighting(index);
    if (snapshotFields(this.#head).equals(sighting.fields) && this.#isStillThere(sighting)) return 'alive';
    return this.#search(index);
  }

  #firstSighting(index: number): Sighting {
    const sighting = {
      fields: this.#firstFields,
      fileOffset: this.#snapshots.fileOffset(index),
      entry: this.#snapshots.rawEntry(index),
    };
    this.#sightings[index] = sighting;
    return sighting;
  }

  /** Reads the head into `#head`. False if the image does not mean the same any more. */
  #readHead(): boolean {
    for (let attempt = 1; attempt <= MAX_HEAD_READS; attempt++) {
      const count = this.#file.storage.readUpTo(this.#headNow, 0, this.#headNow.length, 0);
      this.#headNow.fill(0, count);
      if (this.#headNow.equals(this.#head)) return true;
      if (hasSameMeaning(this.#file)) {
        this.#headNow.copy(this.#head);
        return true;
      }
      pause();
    }
    return false;
  }

  #isStillThere({ fileOffset, entry }: Sighting): boolean {
    if (this.#entryNow.length < entry.length) this.#entryNow = Buffer.alloc(entry.length);
    const count = this.#file.storage.readUpTo(this.#entryNow, 0, entry.length, fileOffset);
    return count === entry.length && this.#entryNow.compare(entry, 0, entry.length, 0, entry.length) === 0;
  }

  /** Looks through the table that the header points to. */
  #search(index: number): 'moved' | 'gone' {
    const snapshot = this.#snapshots.at(index);
    if (snapshot === undefined) return 'gone';
    const identity = snapshotIdentity(snapshot);
    let absences = 0;
    for (let search = 0; search < MAX_SEARCHES; search++) {
      const fields = Buffer.from(snapshotFields(this.#head));
      const table = this.#readTable();
      const found = table === undefined ? undefined : findEntry(table, identity);
      if (found !== undefined) {
        this.#sightings[index] = { fields, ...found };
        return 'moved';
      }
      if (!this.#readHead()) return 'gone';
      // What was looked through may have been given up meanwhile, and be empty or something else already.
      const isWhole = table?.problems.length === 0 && snapshotFields(this.#head).equals(fields);
      if (isWhole && ++absences === NEEDED_ABSENCES) return 'gone';
      pause();
    }
    return 'gone';
  }

  /** undefined for a header that cannot be. */
  #readTable(): SnapshotTable | undefined {
    try {
      return readSnapshotTable({ ...this.#file, header: decodeHeader(this.#head) });
    } catch (error) {
      if (error instanceof Qcow2fsError && error.code !== 'IO') return undefined;
      throw error;
    }
  }
}

function findEntry(table: SnapshotTable, identity: string): Omit<Sighting, 'fields'> | undefined {
  const snapshots = new Snapshots(table.memory);
  for (const [index, snapshot] of [...snapshots].entries()) {
    if (snapshotIdentity(snapshot) !== identity) continue;
    return { fileOffset: snapshots.fileOffset(index), entry: Buffer.from(snapshots.rawEntry(index)) };
  }
  return undefined;
}

/** Blocks the thread: reading is synchronous. */
function pause(): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PAUSE_MS);
}
