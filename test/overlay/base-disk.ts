/** A disk in memory with data and holes, which can be told to fail: what a delta lies over. */

import type { Disk, Extent } from '../../src/disk/disk.ts';
import { Qcow2fsError } from '../../src/errors.ts';
import { Random } from '../oracle/random.ts';

/** Holes and data change at multiples of this, which are not those of blocks. */
const CHUNK_BYTES = 20_000;
const PATTERN_BYTES = 997_000;

export class BaseDisk implements Disk {
  readonly sizeBytes: number;
  /** What it reads as. */
  readonly bytes: Buffer;
  /** Reads of any byte in [from, to) fail. */
  broken: readonly [from: number, to: number] = [0, 0];
  readCount = 0;

  constructor(sizeBytes: number, seed = 1) {
    this.sizeBytes = sizeBytes;
    this.bytes = Buffer.alloc(sizeBytes, new Random(seed).bytes(PATTERN_BYTES));
    for (let at = 0; at < sizeBytes; at += CHUNK_BYTES) {
      if (isHole(at)) this.bytes.fill(0, at, Math.min(sizeBytes, at + CHUNK_BYTES));
    }
  }

  extentAt(offset: number, maxLengthBytes: number, into: Extent): void {
    const end = (Math.floor(offset / CHUNK_BYTES) + 1) * CHUNK_BYTES;
    into.kind = isHole(offset) ? 'hole' : 'data';
    into.lengthBytes = Math.min(maxLengthBytes, end - offset);
    into.hostOffset = isHole(offset) ? -1 : offset;
    into.depth = 3;
  }

  readAt(target: Buffer, targetOffset: number, offset: number, length: number): void {
    this.readCount += 1;
    if (offset < 0 || offset + length > this.sizeBytes) throw new RangeError(`${offset} + ${length} is outside`);
    const [from, to] = this.broken;
    if (offset < to && offset + length > from) throw new Qcow2fsError('DAMAGED', 'this range is broken');
    this.bytes.copy(target, targetOffset, offset, offset + length);
  }

  allocatedBytes(): number {
    return this.sizeBytes;
  }

  metadataBytes(): number {
    return 0;
  }
}

/** Long holes come between, so that pages of the map are in them as well. */
function isHole(offset: number): boolean {
  const chunk = Math.floor(offset / CHUNK_BYTES);
  return chunk % 3 === 0 || Math.floor(chunk / 1000) % 4 === 2;
}
