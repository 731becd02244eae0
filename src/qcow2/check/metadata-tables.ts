/**
 * Tables of 8-byte entries in which several states or bitmaps have a part: L1 tables, tables of bitmaps. Damaged ones may
 * lie over one another in any number, so each place is looked at once, for all tables that it belongs to.
 */

import { mapSequence } from '../../common/sequence.ts';
import { READ_UNITS } from '../work-budget.ts';
import { type CheckedImage, isWithinFile } from './checked-image.ts';
import { type CountedRange, mergeRanges } from './merge-ranges.ts';
import { readZeroPadded } from './read-zero-padded.ts';
import type { ClusterUse, ReferenceWindow } from './reference-window.ts';

export interface MetadataTable {
  /** In the file; cluster aligned. */
  readonly offset: number;
  /** Entries. */
  readonly size: number;
}

/** An entry that is not zero, at `position` of the file; `part` says how many tables it belongs to. */
export type EntryVisitor = (high: number, low: number, position: number, part: CountedRange) => void;

const CHUNK_BYTES = 64 * 1024;
const ENTRY_BYTES = 8;

export class MetadataTables {
  readonly #image: CheckedImage;
  readonly #use: ClusterUse;
  readonly #clusters: readonly CountedRange[];
  readonly #pastEnd: readonly MetadataTable[];
  readonly #parts: readonly CountedRange[];

  /** `active` is the one of `tables` that belongs to the current state, if there is one. */
  constructor(image: CheckedImage, tables: readonly MetadataTable[], use: ClusterUse, active?: MetadataTable) {
    const { clusterBytes, file } = image;
    const isWithin = ({ offset, size }: MetadataTable) => isWithinFile(image, offset, size * ENTRY_BYTES);
    this.#image = image;
    this.#use = use;
    this.#pastEnd = tables.filter((table) => !isWithin(table));
    this.#clusters = [
      ...mergeRanges(
        tables.filter(isWithin).map(({ offset, size }) => ({
          start: offset / clusterBytes,
          end: Math.ceil((offset + size * ENTRY_BYTES) / clusterBytes),
        })),
      ),
    ];
    // QEMU takes what lies past the end of the file for zeros.
    const readableEnd = Math.ceil(file.storage.sizeBytes / ENTRY_BYTES) * ENTRY_BYTES;
    const toRange = ({ offset, size }: MetadataTable) => ({
      start: offset,
      end: Math.min(offset + size * ENTRY_BYTES, readableEnd),
    });
    this.#parts = [...mergeRanges(mapSequence(tables, toRange), active && toRange(active))];
  }

  /** Counts the references to the clusters of the tables. */
  countClusters(window: ReferenceWindow): void {
    for (const { offset, size } of this.#pastEnd) window.add(offset, size * ENTRY_BYTES, 1, this.#use);
    for (const { start, end, times } of this.#clusters) window.addClusters(start, end, times, this.#use);
  }

  /**
   * Calls `visit` with each entry that is not zero, until the budget is spent.
   * @throws Qcow2fsError IO.
   */
  forEachEntry(visit: EntryVisitor): void {
    const words = new Int32Array(CHUNK_BYTES / 4);
    const chunk = Buffer.from(words.buffer);
    let chunkStart = 0;
    let chunkEnd = 0;
    let runEnd = 0;
    for (const [index, part] of this.#parts.entries()) {
      for (let position = part.start; position < part.end; position += ENTRY_BYTES) {
        if (position >= chunkEnd) {
          if (position >= runEnd) runEnd = this.#endOfRun(index);
          chunkStart = position;
          chunkEnd = Math.min(runEnd, position + CHUNK_BYTES);
          if (!this.#image.budget.spend(READ_UNITS + chunkEnd - chunkStart)) return;
          readZeroPadded(this.#image.file.storage, chunk, chunkEnd - chunkStart, chunkStart);
        }
        const at = position - chunkStart;
        // Whether it is zero does not depend on the byte order, and most entries are.
        if (words[at / 4] === 0 && words[at / 4 + 1] === 0) continue;
        visit(chunk.readUInt32BE(at), chunk.readUInt32BE(at + 4), position, part);
      }
    }
  }

  /** Where the parts from `index` on, each of which begins where the one before it ends, end. */
  #endOfRun(index: number): number {
    let last = index;
    while (this.#parts[last + 1]?.start === this.#parts[last]?.end) last += 1;
    return this.#parts[last]?.end ?? 0;
  }
}
