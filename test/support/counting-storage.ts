/** Counts what is read: the work that a file asks for. */

import { BufferStorage } from '../../src/storage/buffer-storage.ts';

export class CountingStorage extends BufferStorage {
  bytesRead = 0;
  readonly storedBytes: number;

  constructor(bytes: Buffer) {
    super(bytes);
    this.storedBytes = bytes.length;
  }

  override readUpTo(target: Buffer, targetOffset: number, length: number, position: number): number {
    this.bytesRead += length;
    return super.readUpTo(target, targetOffset, length, position);
  }
}

/** A file whose bytes are followed by a hole, up to `sizeBytes`. */
export class SparseStorage extends CountingStorage {
  override readonly sizeBytes: number;

  constructor(bytes: Buffer, sizeBytes: number) {
    super(bytes);
    this.sizeBytes = sizeBytes;
  }

  override readUpTo(target: Buffer, targetOffset: number, length: number, position: number): number {
    const count = Math.max(0, Math.min(length, this.sizeBytes - position));
    target.fill(0, targetOffset, targetOffset + count);
    if (position < this.storedBytes) super.readUpTo(target, targetOffset, length, position);
    else this.bytesRead += length;
    return count;
  }
}
