/** What main knows about an image while it is served, and what its readers met: memory that all threads share. */

/** Words. */
const BUSY = 0;
const REPEATED_READS = 1;
const REFUSED_READS = 2;
const WORD_COUNT = 3;

export class ImageStatus {
  readonly #words: BigInt64Array<SharedArrayBuffer>;

  /** `memory` is of `createMemory`. */
  constructor(memory: SharedArrayBuffer) {
    this.#words = new BigInt64Array(memory);
  }

  static createMemory(): SharedArrayBuffer {
    return new SharedArrayBuffer(WORD_COUNT * BigInt64Array.BYTES_PER_ELEMENT);
  }

  /** Not busy, and counts on from an earlier one, whose readers go on with theirs. */
  static continueMemory(earlier: SharedArrayBuffer): SharedArrayBuffer {
    const memory = ImageStatus.createMemory();
    new BigInt64Array(memory).set(new BigInt64Array(earlier));
    new ImageStatus(memory).isBusy = false;
    return memory;
  }

  /** True while somebody writes to the image: what is on its disk is not its current state then. */
  get isBusy(): boolean {
    return Atomics.load(this.#words, BUSY) !== 0n;
  }

  set isBusy(isBusy: boolean) {
    Atomics.store(this.#words, BUSY, isBusy ? 1n : 0n);
  }

  /** Reads that were done again since the snapshot table moved under them. */
  get repeatedReadCount(): bigint {
    return Atomics.load(this.#words, REPEATED_READS);
  }

  countRepeatedRead(): void {
    Atomics.add(this.#words, REPEATED_READS, 1n);
  }

  /** Reads that failed since what they wanted is there no more, or not to be read now. */
  get refusedReadCount(): bigint {
    return Atomics.load(this.#words, REFUSED_READS);
  }

  countRefusedRead(): void {
    Atomics.add(this.#words, REFUSED_READS, 1n);
  }
}
