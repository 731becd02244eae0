/** A storage that is read in large pieces, for tables of many small entries one behind the other. */

import { Qcow2fsError } from '../errors.ts';
import type { Storage } from './storage.ts';

const WINDOW_BYTES = 64 * 1024;

/** Keeps what it read last: it is made for the reading of one table, not for longer. */
export class ReadAheadStorage implements Storage {
  readonly name: string;
  readonly sizeBytes: number;
  readonly #storage: Storage;
  readonly #window = Buffer.allocUnsafe(WINDOW_BYTES);
  #start = 0;
  #lengthBytes = 0;

  constructor(storage: Storage) {
    this.name = storage.name;
    this.sizeBytes = storage.sizeBytes;
    this.#storage = storage;
  }

  readUpTo(target: Buffer, targetOffset: number, length: number, position: number): number {
    if (!this.#holds(position, length)) this.#moveTo(position);
    if (!this.#holds(position, length)) return this.#storage.readUpTo(target, targetOffset, length, position);
    const from = position - this.#start;
    return this.#window.copy(target, targetOffset, from, from + length);
  }

  #holds(position: number, length: number): boolean {
    return position >= this.#start && position + length <= this.#start + this.#lengthBytes;
  }

  /** A sector that cannot be read behind what is asked for is no failure: then the window stays empty. */
  #moveTo(position: number): void {
    this.#start = position;
    this.#lengthBytes = 0;
    try {
      this.#lengthBytes = this.#storage.readUpTo(this.#window, 0, WINDOW_BYTES, position);
    } catch (error) {
      if (!(error instanceof Qcow2fsError) || error.code !== 'IO') throw error;
    }
  }
}
