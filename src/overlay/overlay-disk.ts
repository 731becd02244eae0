/** A disk that cannot be written with what was written over it: a disk that can. */

import type { Disk, Extent } from '../disk/disk.ts';
import { countOrAssumeAllocated } from '../disk/walk.ts';
import type { WritableDisk } from '../disk/writable-disk.ts';
import { BASE, type BlockState, DATA } from './block-map.ts';
import type { Delta } from './delta.ts';
import { BLOCK_BYTES } from './delta-memory.ts';

export class OverlayDisk implements WritableDisk {
  readonly sizeBytes: number;
  readonly #base: Disk;
  readonly #delta: Delta;
  readonly #requireAlive: () => void;

  /**
   * @param delta of a disk of the size of `base`
   * @param requireAlive throws if `base` is not what it was: called where that is not asked itself
   */
  constructor(base: Disk, delta: Delta, requireAlive: () => void) {
    if (delta.sizeBytes !== base.sizeBytes) {
      throw new RangeError(`a delta of ${delta.sizeBytes} bytes is not one of a disk of ${base.sizeBytes} bytes`);
    }
    this.sizeBytes = base.sizeBytes;
    this.#base = base;
    this.#delta = delta;
    this.#requireAlive = requireAlive;
  }

  /** What the blocks that were written take in the delta. */
  get usedBytes(): number {
    return this.#delta.usedBytes;
  }

  /** Milliseconds since 1970 of the last change, 0 if there was none. */
  get writtenAtMs(): number {
    return this.#delta.writtenAtMs;
  }

  /** What was written is `data` of depth 0 without an offset: it is not in the file of the image. */
  extentAt(offset: number, maxLengthBytes: number, into: Extent): void {
    const state = this.#stateAt(offset);
    if (state === BASE) {
      this.#base.extentAt(offset, maxLengthBytes, into);
      into.lengthBytes = this.#runEnd(offset, offset + into.lengthBytes, state) - offset;
      return;
    }
    into.kind = state === DATA ? 'data' : 'zero';
    into.lengthBytes = this.#runEnd(offset, offset + maxLengthBytes, state) - offset;
    into.hostOffset = -1;
    into.depth = 0;
  }

  readAt(target: Buffer, targetOffset: number, offset: number, length: number): void {
    const end = offset + length;
    const shift = targetOffset - offset;
    let isBaseRead = false;
    for (let at = offset; at < end; ) {
      const state = this.#stateAt(at);
      const runEnd = this.#runEnd(at, end, state);
      if (state === BASE) {
        this.#base.readAt(target, at + shift, at, runEnd - at);
        isBaseRead = true;
      } else if (state === DATA) this.#delta.read(target, at + shift, at, runEnd - at);
      else target.fill(0, at + shift, runEnd + shift);
      at = runEnd;
    }
    if (!isBaseRead) this.#requireAlive();
  }

  writeAt(source: Buffer, sourceOffset: number, offset: number, length: number): void {
    // Before: a view that is no more must not be changed.
    this.#requireAlive();
    this.#delta.write(this.#base, source, sourceOffset, offset, length);
  }

  discardAt(offset: number, length: number): void {
    this.#requireAlive();
    this.#delta.discard(this.#base, offset, length);
  }

  sync(): void {
    this.#delta.sync();
  }

  /** Exact while a walk would not read too much; otherwise all of the disk. */
  allocatedBytes(): number {
    return countOrAssumeAllocated(this);
  }

  metadataBytes(): number {
    return this.#base.metadataBytes();
  }

  #stateAt(offset: number): BlockState {
    return this.#delta.blocks.stateAt(Math.floor(offset / BLOCK_BYTES));
  }

  /** Where bytes of `state` end that begin at `offset`, at most `limit`. */
  #runEnd(offset: number, limit: number, state: BlockState): number {
    const first = Math.floor(offset / BLOCK_BYTES);
    return Math.min(limit, this.#delta.blocks.runEnd(first, Math.ceil(limit / BLOCK_BYTES), state) * BLOCK_BYTES);
  }
}
