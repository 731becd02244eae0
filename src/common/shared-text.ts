/** A long text that all threads of the process share, made by the first that needs it. */

import { Qcow2fsError } from '../errors.ts';

/** Plain data: can be sent to worker threads. */
export interface SharedTextMemory {
  readonly bytes: SharedArrayBuffer;
  /** One word: how many of the bytes the text has, or 0 as long as it is not made. */
  readonly length: SharedArrayBuffer;
}

/** Memory for a text of up to `capacityBytes` bytes. The kernel backs it only as it is used. */
export function createSharedTextMemory(capacityBytes: number): SharedTextMemory {
  return { bytes: new SharedArrayBuffer(capacityBytes), length: new SharedArrayBuffer(4) };
}

export class SharedText {
  readonly #memory: SharedTextMemory;
  readonly #length: Int32Array;
  readonly #toPieces: () => Iterable<string>;
  #bytes: Buffer | undefined;

  /** `toPieces` gives the same text in every thread, and never an empty one. */
  constructor(memory: SharedTextMemory, toPieces: () => Iterable<string>) {
    this.#memory = memory;
    this.#length = new Int32Array(memory.length);
    this.#toPieces = toPieces;
  }

  /** The text as UTF-8. */
  bytes(): Buffer {
    this.#bytes ??= this.#made();
    return this.#bytes;
  }

  /** Needs no lock: threads that make the text at the same time write the same bytes to the same places. */
  #made(): Buffer {
    if (Atomics.load(this.#length, 0) === 0) Atomics.store(this.#length, 0, this.#make());
    return Buffer.from(this.#memory.bytes, 0, Atomics.load(this.#length, 0));
  }

  /** @throws Qcow2fsError INTERNAL if the memory is too small. */
  #make(): number {
    const target = Buffer.from(this.#memory.bytes);
    let length = 0;
    for (const piece of this.#toPieces()) {
      if (Buffer.byteLength(piece) > target.length - length) {
        throw new Qcow2fsError('INTERNAL', `a text is longer than the ${target.length} bytes that it has`);
      }
      length += target.write(piece, length);
    }
    return length;
  }
}
