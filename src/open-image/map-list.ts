/** The extents of a map, of which there may be millions. */

/** As in `qemu-img map --output=json`; `offset` is -1 where that has none. */
export interface MapEntry {
  start: number;
  length: number;
  /** Which layer it is in: 0 is the image itself. */
  depth: number;
  /** Something is stored, be it only that it reads as zeros. */
  present: boolean;
  zero: boolean;
  data: boolean;
  offset: number;
}

const FIRST_CAPACITY = 1024;
const NUMBERS = 4;
const [PRESENT, ZERO, DATA, DEPTH_FACTOR] = [1, 2, 4, 8];

export class MapList implements Iterable<Readonly<MapEntry>> {
  #count = 0;
  /** Start, length, offset, and flags with the depth above them. */
  #numbers = new Float64Array(FIRST_CAPACITY * NUMBERS);

  get length(): number {
    return this.#count;
  }

  /** Adds the extent behind the last one; both become one where they go on in each other. */
  add({ start, length, depth, present, zero, data, offset }: Readonly<MapEntry>): void {
    const flags = (present ? PRESENT : 0) + (zero ? ZERO : 0) + (data ? DATA : 0) + depth * DEPTH_FACTOR;
    const last = (this.#count - 1) * NUMBERS;
    if (last >= 0 && this.#numbers[last + 3] === flags) {
      const [lastLength = 0, lastOffset = 0] = this.#numbers.subarray(last + 1, last + 3);
      if (offset < 0 ? lastOffset < 0 : lastOffset >= 0 && offset === lastOffset + lastLength) {
        this.#numbers[last + 1] = lastLength + length;
        return;
      }
    }
    const at = this.#count * NUMBERS;
    if (at === this.#numbers.length) this.#grow();
    this.#numbers.set([start, length, offset, flags], at);
    this.#count += 1;
  }

  *[Symbol.iterator](): Iterator<Readonly<MapEntry>> {
    for (let at = 0; at < this.#count * NUMBERS; at += NUMBERS) {
      const [start = 0, length = 0, offset = -1, flags = 0] = this.#numbers.subarray(at, at + NUMBERS);
      yield {
        start,
        length,
        depth: Math.floor(flags / DEPTH_FACTOR),
        present: (flags & PRESENT) !== 0,
        zero: (flags & ZERO) !== 0,
        data: (flags & DATA) !== 0,
        offset,
      };
    }
  }

  #grow(): void {
    const grown = new Float64Array(this.#numbers.length * 2);
    grown.set(this.#numbers);
    this.#numbers = grown;
  }
}
