/**
 * Compares rows of two L2 tables: which guest bytes may differ, from the tables alone. Equal host offsets prove equal bytes, since
 * QEMU never writes to a cluster that two states share.
 */

import type { Qcow2Metadata } from '../open-qcow2.ts';
import type { L2Rows, Rows } from './l2-rows.ts';
import {
  meaninglessBits,
  RAW_COMPRESSED,
  RAW_COPIED,
  RAW_OFFSET_HIGH,
  RAW_OFFSET_LOW,
  RAW_ZERO,
  swapWord,
} from './raw-entries.ts';

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

export class ChangedRows {
  readonly #rows: L2Rows;
  readonly #clusterBytes: number;
  readonly #hasBacking: boolean;
  readonly #comparedBits: number;
  /** Of the first word: what makes an offset of 0 a cluster all the same. */
  readonly #placeBits: number;

  constructor(rows: L2Rows, file: Qcow2Metadata) {
    this.#rows = rows;
    this.#clusterBytes = file.clusterBytes;
    // What is not allocated then need not read as zeros.
    this.#hasBacking = file.backingName !== undefined;
    this.#comparedBits = ~meaninglessBits(file);
    this.#placeBits = file.hasDataFile ? RAW_OFFSET_HIGH | RAW_COPIED : RAW_OFFSET_HIGH;
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
      if (!isSameEntry(words, a, b, wordCount, this.#comparedBits)) {
        const changed = entryBytes === 8 ? this.#changedCluster(a, b) : this.#changedSubclusters(a, b);
        const start = guestOffset + row * clusterBytes;
        if (changed === ALL) onChange(Math.max(start, from), Math.min(start + clusterBytes, to));
        else if (changed !== 0) this.#tellSubclusters(changed, start, from, to, onChange);
      }
      a += one.stepBytes / 4;
      b += other.stepBytes / 4;
    }
  }

  /** All bits or none, for entries at these words, which are not the same. */
  #changedCluster(a: number, b: number): number {
    const { words } = this.#rows;
    const [highA, lowA] = [words[a] ?? 0, words[a + 1] ?? 0];
    const [highB, lowB] = [words[b] ?? 0, words[b + 1] ?? 0];
    const isCompressed = ((highA | highB) & RAW_COMPRESSED) !== 0;
    const holdsA = this.#holdsData(highA, lowA);
    if (holdsA !== this.#holdsData(highB, lowB)) return ALL;
    if (holdsA) return isCompressed || !isSamePlace(highA, lowA, highB, lowB) ? ALL : 0;
    return this.#hasBacking && ((lowA ^ lowB) & RAW_ZERO) !== 0 ? ALL : 0;
  }

  /** Of an entry without subclusters. See `hasCluster`. */
  #holdsData(high: number, low: number): boolean {
    if ((high & RAW_COMPRESSED) !== 0) return true;
    return (low & RAW_ZERO) === 0 && ((high & this.#placeBits) | (low & RAW_OFFSET_LOW)) !== 0;
  }

  /** A bit for each subcluster: of the high half of the bitmap those that are zeros, of the low half those that hold data. */
  #changedSubclusters(a: number, b: number): number {
    const { words } = this.#rows;
    const [highA, lowA, zerosA, bitmapA] = [words[a] ?? 0, words[a + 1] ?? 0, words[a + 2] ?? 0, words[a + 3] ?? 0];
    const [highB, lowB, zerosB, bitmapB] = [words[b] ?? 0, words[b + 1] ?? 0, words[b + 2] ?? 0, words[b + 3] ?? 0];
    const [isCompressedA, isCompressedB] = [(highA & RAW_COMPRESSED) !== 0, (highB & RAW_COMPRESSED) !== 0];
    const dataA = isCompressedA ? ALL : swapWord(bitmapA);
    const dataB = isCompressedB ? ALL : swapWord(bitmapB);
    let changed = dataA ^ dataB;
    if (isCompressedA || isCompressedB || !isSamePlace(highA, lowA, highB, lowB)) changed |= dataA & dataB;
    if (this.#hasBacking) changed |= swapWord(zerosA ^ zerosB) & ~(dataA | dataB);
    return changed | 0;
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

function isSamePlace(highA: number, lowA: number, highB: number, lowB: number): boolean {
  return (((highA ^ highB) & RAW_OFFSET_HIGH) | ((lowA ^ lowB) & RAW_OFFSET_LOW)) === 0;
}

function isSameEntry(words: Int32Array, a: number, b: number, wordCount: number, comparedBits: number): boolean {
  if (words[a + 1] !== words[b + 1]) return false;
  if ((((words[a] ?? 0) ^ (words[b] ?? 0)) & comparedBits) !== 0) return false;
  return wordCount === 2 || (words[a + 2] === words[b + 2] && words[a + 3] === words[b + 3]);
}
