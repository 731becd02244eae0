/** What main knows about an image while it is served, and what its readers met: memory that all threads share. */

/** Words of 32 bits, which each read looks at. */
const BUSY = 0;
const BUSY_LOWER_FILE = 1;
const FLAG_COUNT = 2;

/** Words of 64 bits behind them. */
const REPEATED_READS = 0;
const REFUSED_READS = 1;
const COUNTER_COUNT = 2;

const COUNTERS_OFFSET = FLAG_COUNT * Int32Array.BYTES_PER_ELEMENT;
const MEMORY_BYTES = COUNTERS_OFFSET + COUNTER_COUNT * BigInt64Array.BYTES_PER_ELEMENT;

export class ImageStatus {
  readonly #flags: Int32Array<SharedArrayBuffer>;
  readonly #counters: BigInt64Array<SharedArrayBuffer>;

  /** `memory` is of `createMemory`. */
  constructor(memory: SharedArrayBuffer) {
    this.#flags = new Int32Array(memory, 0, FLAG_COUNT);
    this.#counters = new BigInt64Array(memory, COUNTERS_OFFSET, COUNTER_COUNT);
  }

  static createMemory(): SharedArrayBuffer {
    return new SharedArrayBuffer(MEMORY_BYTES);
  }

  /** With nothing that is busy, and counts on from an earlier one, whose readers go on with theirs. */
  static continueMemory(earlier: SharedArrayBuffer): SharedArrayBuffer {
    const memory = ImageStatus.createMemory();
    new ImageStatus(memory).#counters.set(new ImageStatus(earlier).#counters);
    return memory;
  }

  /** True while somebody writes to the image: what is on its disk is not its current state then. */
  get isBusy(): boolean {
    return Atomics.load(this.#flags, BUSY) !== 0;
  }

  set isBusy(isBusy: boolean) {
    Atomics.store(this.#flags, BUSY, isBusy ? 1 : 0);
  }

  /**
   * The place in `filesOfLayers` of a file below the image that somebody writes to, otherwise 0: no state can be told from what is
   * on its disk then.
   */
  get busyLowerFile(): number {
    return Atomics.load(this.#flags, BUSY_LOWER_FILE);
  }

  set busyLowerFile(index: number) {
    Atomics.store(this.#flags, BUSY_LOWER_FILE, index);
  }

  /** Reads that were done again since the snapshot table moved under them. */
  get repeatedReadCount(): bigint {
    return Atomics.load(this.#counters, REPEATED_READS);
  }

  countRepeatedRead(): void {
    Atomics.add(this.#counters, REPEATED_READS, 1n);
  }

  /** Reads that failed since what they wanted is there no more, or not to be read now. */
  get refusedReadCount(): bigint {
    return Atomics.load(this.#counters, REFUSED_READS);
  }

  countRefusedRead(): void {
    Atomics.add(this.#counters, REFUSED_READS, 1n);
  }
}
