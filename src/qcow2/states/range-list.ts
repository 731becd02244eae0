/** Ranges of bytes in order, of which there may be millions. */

import type { Sequence } from '../../common/sequence.ts';

export interface ByteRange {
  readonly start: number;
  readonly length: number;
}

const FIRST_CAPACITY = 1024;

export class RangeList implements Sequence<ByteRange> {
  /** Bytes in all ranges. */
  totalBytes = 0;
  #count = 0;
  /** The start and the end of each range. */
  #bounds = new Float64Array(FIRST_CAPACITY);

  get length(): number {
    return this.#count;
  }

  /** Adds [`start`, `end`), which begins where the last one ends or later; neighbours become one range. */
  add(start: number, end: number): void {
    if (start >= end) return;
    this.totalBytes += end - start;
    const last = this.#count * 2 - 1;
    if (last > 0 && this.#bounds[last] === start) {
      this.#bounds[last] = end;
      return;
    }
    if (last + 2 >= this.#bounds.length) this.#grow();
    this.#bounds[last + 1] = start;
    this.#bounds[last + 2] = end;
    this.#count += 1;
  }

  at(index: number): ByteRange | undefined {
    return index < this.#count ? this.#range(index) : undefined;
  }

  *[Symbol.iterator](): Iterator<ByteRange> {
    for (let index = 0; index < this.#count; index++) yield this.#range(index);
  }

  #range(index: number): ByteRange {
    const start = this.#bounds[index * 2] ?? 0;
    return { start, length: (this.#bounds[index * 2 + 1] ?? 0) - start };
  }

  #grow(): void {
    const grown = new Float64Array(this.#bounds.length * 2);
    grown.set(this.#bounds);
    this.#bounds = grown;
  }
}
