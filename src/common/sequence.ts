/** Values in an order, which need not exist before they are asked for. */

/** What an array has in common with a view that makes its values anew each time. */
export interface Sequence<Value> extends Iterable<Value> {
  readonly length: number;
  /** The value with this place, from 0 and never negative; undefined behind the last one. */
  at(index: number): Value | undefined;
}

/** `source` with each value as `transform` makes it, when it is asked for; one that is asked for again at once is kept. */
export function mapSequence<From, To>(source: Sequence<From>, transform: (value: From) => To): Sequence<To> {
  return new MappedSequence(source, transform);
}

class MappedSequence<From, To> implements Sequence<To> {
  readonly #source: Sequence<From>;
  readonly #transform: (value: From) => To;
  #lastIndex = -1;
  #last: To | undefined;

  constructor(source: Sequence<From>, transform: (value: From) => To) {
    this.#source = source;
    this.#transform = transform;
  }

  get length(): number {
    return this.#source.length;
  }

  at(index: number): To | undefined {
    if (index !== this.#lastIndex) {
      const value = this.#source.at(index);
      this.#last = value === undefined ? undefined : this.#transform(value);
      this.#lastIndex = index;
    }
    return this.#last;
  }

  *[Symbol.iterator](): Iterator<To> {
    for (const value of this.#source) yield this.#transform(value);
  }
}
