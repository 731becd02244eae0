/** Reads clusters as they are stored, and says what the end of the file means for them. */

import { messageOf, Qcow2fsError } from '../errors.ts';
import type { MissingRanges } from '../storage/missing-ranges.ts';
import { pastEnd, type Storage } from '../storage/storage.ts';
import { findClusterBehindEnd } from './end-of-image.ts';
import type { Qcow2File } from './open-qcow2.ts';

export class StoredClusters {
  readonly #file: Qcow2File;
  readonly #storage: Storage;
  readonly #missing: MissingRanges | undefined;
  /** Whether the file was cut: undefined while nobody needed to know, then why it was, or '' if it was not. */
  #reasonForCut: string | undefined;

  /** With `missing`, whatever lies past the end of the file is zeros, as in QEMU. */
  constructor(file: Qcow2File, missing?: MissingRanges) {
    this.#file = file;
    this.#storage = file.dataStorage;
    this.#missing = missing;
  }

  /**
   * Reads `length` bytes of neighbouring clusters from `position` of the file on. The last cluster of a healthy image may
   * not be there to its end, if nothing was written to that part: it is zeros then.
   * @throws Qcow2fsError PAST_END for a cluster that begins past the end of the file; DAMAGED for one that is cut; IO.
   */
  read(target: Buffer, targetOffset: number, length: number, position: number, what: string): void {
    const count = this.#storage.readUpTo(target, targetOffset, length, position);
    if (count === length) return;
    // A number above 2^53 is not exact: which sector it is, and so how it is encrypted, cannot be told. No file is as long.
    if (this.#missing === undefined || position > Number.MAX_SAFE_INTEGER) {
      this.#requireSameEnd(position + count);
      this.#requireTail(position, length, what);
    } else {
      this.#missing.add(this.#storage, position, length, what);
    }
    target.fill(0, targetOffset + count, targetOffset + length);
  }

  /** Throws if the data ended at `end`, before the end that the file had when it was opened: that says nothing of a tail. */
  #requireSameEnd(end: number): void {
    const { name, sizeBytes } = this.#storage;
    if (end >= sizeBytes) return;
    throw new Qcow2fsError(
      'PAST_END',
      `${name}: the file ends at offset ${end}, but had ${sizeBytes} bytes when it was opened: it was cut meanwhile`,
      { data: { file: name, position: end, sizeBytes } },
    );
  }

  /** Throws unless what is missing of the range is the tail of the last cluster of a healthy image. */
  #requireTail(position: number, length: number, what: string): void {
    const { clusterBytes, hasDataFile } = this.#file;
    const storage = this.#storage;
    const endOfLastCluster = Math.ceil(storage.sizeBytes / clusterBytes) * clusterBytes;
    // QEMU makes a data file as long as the disk, and nothing counts what is in use in it.
    if (hasDataFile || position + length > endOfLastCluster) throw pastEnd(storage, position, length, what);
    this.#reasonForCut ??= reasonForCut(this.#file);
    if (this.#reasonForCut === '') return;
    throw new Qcow2fsError(
      'DAMAGED',
      `${storage.name}: ${what} at offset ${position} (${length} bytes) is cut by the end of the file ` +
        `(${storage.sizeBytes} bytes): ${this.#reasonForCut}; the file was cut, or copied incompletely`,
      { data: { file: storage.name, position, length, sizeBytes: storage.sizeBytes } },
    );
  }
}

function reasonForCut(file: Qcow2File): string {
  try {
    const offset = findClusterBehindEnd(file);
    return offset === undefined ? '' : `the cluster at offset ${offset}, behind the end, is in use as well`;
  } catch (error) {
    if (!(error instanceof Qcow2fsError) || error.code === 'IO') throw error;
    return `whether more is missing cannot be told: ${messageOf(error)}`;
  }
}
