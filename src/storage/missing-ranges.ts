/** Bytes past the end of a file that the user wants to be read as zeros: how many ranges there were, over all threads. */

import { warn } from '../common/logging.ts';
import type { Storage } from './storage.ts';

export class MissingRanges {
  readonly #count: BigUint64Array<SharedArrayBuffer>;

  /** `memory` is of `createMemory`, one for all threads that serve an image. */
  constructor(memory: SharedArrayBuffer) {
    this.#count = new BigUint64Array(memory);
  }

  static createMemory(): SharedArrayBuffer {
    return new SharedArrayBuffer(BigUint64Array.BYTES_PER_ELEMENT);
  }

  /** Reads that met such a range so far. */
  get count(): bigint {
    return Atomics.load(this.#count, 0);
  }

  /**
   * Counts a range that is given as zeros. The first one is logged, and after it only each tenfold number: a reader may
   * meet millions, and a worker has no timer to sum them up.
   */
  add(storage: Storage, position: number, length: number, what: string): void {
    const count = Atomics.add(this.#count, 0, 1n) + 1n;
    if (count === 1n) {
      warn(
        `${storage.name}: ${what} at offset ${position} (${length} bytes) lies past the end of the file ` +
          `(${storage.sizeBytes} bytes): its missing bytes are read as zeros, as --on-missing=zero says`,
      );
    } else if (/^10+$/.test(String(count))) {
      warn(`${storage.name}: ${count} ranges past the end of its files were read as zeros so far`);
    }
  }
}
