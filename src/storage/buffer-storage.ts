/** A Buffer as a Storage: images that are built in memory. */

import type { Storage } from './storage.ts';

export class BufferStorage implements Storage {
  readonly name: string;
  readonly sizeBytes: number;
  readonly #bytes: Buffer;

  constructor(bytes: Buffer, name = 'buffer') {
    this.#bytes = bytes;
    this.name = name;
    this.sizeBytes = bytes.length;
  }

  readUpTo(target: Buffer, targetOffset: number, length: number, position: number): number {
    if (position >= this.sizeBytes) return 0;
    return this.#bytes.copy(target, targetOffset, position, Math.min(this.sizeBytes, position + length));
  }
}
