/**
 * Compares rows of two L2 tables: which guest bytes may differ, from the tables alone. Equal host offsets prove equal bytes, since
 * QEMU never writes to a cluster that two states share.
 */

import type { Qcow2Metadata } from '../open-qcow2.ts';
import { compressedOffset, entryOffset, isCompressedEntry, isZeroEntry } from '../wire/table-entries.ts';
import { COPIED_MASK, type L2Rows, type Rows } from './l2-rows.ts';

/** The rows of one of the two states, and the size of its disk. */
export interface ComparedRows {
  readonly rows: Rows;
  readonly diskBytes: number;
}

/** Where a slice is. */
export interface SlicePlace {
  /** Guest offset of its first row. */
  readonly guestOffset: number;
  readonly rowCount: number;
}

/** Called with each guest range [`start`, `end`) that may differ, in order; neighbours may come one by one. */
export type OnChange = (start: number, end: number) => void;

const ALL = 0xffff_ffff | 0;
const SUBCLUSTERS = 32;

/** Which subclusters of a cluster hold bytes and which read as zeros, as bits, and where the cluster is. */
interface Content {
  dataBits: number;
  zeroBits: number;
  isCompressed: boolean;
  hostOffset: number;
}

export class ChangedRows {
  readonly #rows: L2Rows;
  readonly #clusterBytes: number;
  readonly #clusterBits: number;
  readonly #hasBacking: boolean;
  readonly #first = createContent();
  readonly #second = createContent();

  constructor(rows: L2Rows, { clusterBytes, header, backingName }: Qcow2Metadata) {
    this.#rows = rows;
    this.#clusterBytes = clusterBytes;
    this.#clusterBits = header.clusterBits;
    // What is not allocated then need not read as zeros.
    this.#hasBacking = backingName !== undefined;
  }

  /** Behind the end of the shorter disk are zeros, as for `qemu-img compare`. */
  compare(one: ComparedRows, other: ComparedRows, place: SlicePlace, onChange: OnChange): void {
    const shared = Math.min(one.diskBytes, other.diskBytes);
    const longest = Math.max(one.diskBytes, other.diskBytes);
    this.#compareWithin(one.rows, other.rows, place, 0, shared, onChange);
    if (longest === shared) return;
    const { zeros } = this.#rows;
    const behindOne = one.diskBytes === longest ? one.rows : zeros;
    const behindOther = other.diskBytes === longest ? other.rows : zeros;
    this.#compareWithin(behindOne, behindOther, place, shared, longest, onChange);
  }

  /** What counts is the guest range [`from`, `to`). */
  #compareWithin(
    one: Rows,
    other: Rows,
    { guestOffset, rowCount }: SlicePlace,
    from: number,
    to: number,
    onChange: OnChange,
  ): void {
    const { words, entryBytes } = this.#rows;
    const clusterBytes = this.#clusterBytes;
    const wordCount = entryBytes / 4;
    const first = Math.max(0, Math.floor((from - guestOffset) / clusterBytes));
    const end = Math.min(rowCount, Math.ceil((to - guestOffset) / clusterBytes));
    let a = (one.at + first * one.stepBytes) / 4;
    let b = (other.at + first * other.stepBytes) / 4;
    for (let row = first; row < end; row++) {
      if (!isSameEntry(words, a, b, wordCount)) {
        const changed = this.#changedBits(a * 4, b * 4);
        const start = guestOffset + row * clusterBytes;
        if (changed === ALL) onChange(Math.max(start, from), Math.min(start + clusterBytes, to));
        else if (changed !== 0) this.#tellSubclusters(changed, start, from, to, onChange);
      }
      a += one.stepBytes / 4;
      b += other.stepBytes / 4;
    }
  }

  /** A bit for each subcluster; all or none without extended L2 entries. */
  #changedBits(one: number, other: number): number {
    const [a, b] = [this.#first, this.#second];
    this.#decode(one, a);
    this.#decode(other, b);
    const isStoredOnce = a.isCompressed === b.isCompressed && a.hostOffset === b.hostOffset;
    let changed = a.dataBits ^ b.dataBits;
    if (!isStoredOnce) changed |= a.dataBits & b.dataBits;
    if (this.#hasBacking) changed |= (a.zeroBits ^ b.zeroBits) & ~(a.dataBits | b.dataBits);
    return changed | 0;
  }

  #decode(at: number, into: Content): void {
    const { bytes, entryBytes } = this.#rows;
    const high = bytes.readUInt32BE(at);
    const low = bytes.readUInt32BE(at + 4);
    into.isCompressed = isCompressedEntry(high);
    if (into.isCompressed) {
      into.hostOffset = compressedOffset(high, low, this.#clusterBits);
      into.dataBits = ALL;
      into.zeroBits = 0;
      return;
    }
    into.hostOffset = entryOffset(high, low);
    if (entryBytes === 8) {
      into.zeroBits = isZeroEntry(low) ? ALL : 0;
      into.dataBits = into.hostOffset !== 0 ? ~into.zeroBits : 0;
    } else {
      into.zeroBits = bytes.readInt32BE(at + 8);
      into.dataBits = bytes.readInt32BE(at + 12);
    }
  }

  #tellSubclusters(changed: number, start: number, from: number, to: number, onChange: OnChange): void {
    const subclusterBytes = this.#clusterBytes / SUBCLUSTERS;
    for (let index = 0; index < SUBCLUSTERS; index++) {
      if (((changed >>> index) & 1) === 0) continue;
      const at = start + index * subclusterBytes;
      if (at < to && at + subclusterBytes > from) onChange(Math.max(at, from), Math.min(at + subclusterBytes, to));
    }
  }
}

function createContent(): Content {
  return { dataBits: 0, zeroBits: 0, isCompressed: false, hostOffset: 0 };
}

function isSameEntry(words: Int32Array, a: number, b: number, wordCount: number): boolean {
  if (words[a + 1] !== words[b + 1]) return false;
  if ((((words[a] ?? 0) ^ (words[b] ?? 0)) & ~COPIED_MASK) !== 0) return false;
  return wordCount === 2 || (words[a + 2] === words[b + 2] && words[a + 3] === words[b + 3]);
}
