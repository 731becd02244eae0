/**
 * A disk that is put together from ranges of other disks: a logical volume on its physical volumes. It can be written if they
 * can.
 */

import type { Disk, Extent } from '../disk/disk.ts';
import { countOrAssumeAllocated } from '../disk/walk.ts';
import { requireWritable, type WritableDisk } from '../disk/writable-disk.ts';
import { Qcow2fsError } from '../errors.ts';

/** A range of the mapped disk, and where its bytes are. */
export interface Segment {
  /** Where the range starts in the mapped disk. */
  readonly startBytes: number;
  readonly sizeBytes: number;
  readonly disk: Disk;
  /** Where the range starts in `disk`. */
  readonly offset: number;
}

/** What no segment maps is `damaged`, and cannot be read: nothing says what is there. */
export class MappedDisk implements WritableDisk {
  readonly sizeBytes: number;
  /** By their start. */
  readonly segments: readonly Segment[];

  /**
   * @param segments in any order
   * @throws Qcow2fsError DAMAGED for segments that overlap each other or do not lie within this disk and theirs.
   */
  constructor(sizeBytes: number, segments: readonly Segment[]) {
    this.sizeBytes = requireSize(sizeBytes, 'the volume', 0);
    this.segments = [...segments].sort((one, other) => one.startBytes - other.startBytes);
    let end = 0;
    for (const segment of this.segments) {
      requireWithin(segment, end, sizeBytes);
      end = segment.startBytes + segment.sizeBytes;
    }
  }

  extentAt(offset: number, maxLengthBytes: number, into: Extent): void {
    const index = this.#lastStartingBy(offset);
    const segment = this.segments[index];
    if (segment !== undefined && offset < endOf(segment)) {
      const length = Math.min(maxLengthBytes, endOf(segment) - offset);
      segment.disk.extentAt(segment.offset + (offset - segment.startBytes), length, into);
      return;
    }
    const gapEnd = this.segments[index + 1]?.startBytes ?? this.sizeBytes;
    into.kind = 'damaged';
    into.lengthBytes = Math.min(maxLengthBytes, gapEnd - offset);
    into.hostOffset = -1;
    into.depth = 0;
  }

  readAt(target: Buffer, targetOffset: number, offset: number, length: number): void {
    this.#forEachRange(offset, length, (disk, at, done, count) => disk.readAt(target, targetOffset + done, at, count));
  }

  writeAt(source: Buffer, sourceOffset: number, offset: number, length: number): void {
    this.#forEachRange(offset, length, (disk, at, done, count) =>
      requireWritable(disk).writeAt(source, sourceOffset + done, at, count),
    );
  }

  discardAt(offset: number, length: number): void {
    this.#forEachRange(offset, length, (disk, at, _done, count) => requireWritable(disk).discardAt(at, count));
  }

  sync(): void {
    for (const disk of new Set(this.segments.map((segment) => segment.disk))) requireWritable(disk).sync();
  }

  /** Exact while a walk would not read too much; otherwise all of the disk. */
  allocatedBytes(): number {
    return countOrAssumeAllocated(this);
  }

  metadataBytes(): number {
    let sum = 0;
    for (const disk of new Set(this.segments.map((segment) => segment.disk))) sum += disk.metadataBytes();
    return sum;
  }

  /** Calls `use` with where each range of [`offset`, `offset` + `length`) is, how much comes before it, and its length. */
  #forEachRange(
    offset: number,
    length: number,
    use: (disk: Disk, at: number, done: number, count: number) => void,
  ): void {
    let index = this.#lastStartingBy(offset);
    let done = 0;
    while (done < length) {
      const segment = this.segments[index];
      const at = offset + done;
      if (segment === undefined || at < segment.startBytes || at >= endOf(segment)) throw unmapped(at);
      const count = Math.min(length - done, endOf(segment) - at);
      use(segment.disk, segment.offset + (at - segment.startBytes), done, count);
      done += count;
      index += 1;
    }
  }

  /** The index of the last segment that starts at or before `offset`; -1 if none does. */
  #lastStartingBy(offset: number): number {
    let low = 0;
    let high = this.segments.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.segments[middle] as Segment).startBytes <= offset) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }
}

function endOf(segment: Segment): number {
  return segment.startBytes + segment.sizeBytes;
}

function requireWithin(segment: Segment, previousEnd: number, sizeBytes: number): void {
  const { startBytes, offset, disk } = segment;
  const what = `the segment at ${startBytes} of a volume`;
  requireSize(startBytes, what, 0);
  requireSize(offset, what, 0);
  requireSize(segment.sizeBytes, what, 1);
  if (startBytes < previousEnd) throw invalid(`${what} overlaps the one before it`);
  if (segment.sizeBytes > sizeBytes - startBytes) throw invalid(`${what} goes past the end of the volume`);
  if (segment.sizeBytes > disk.sizeBytes - offset) throw invalid(`${what} goes past the end of the disk it is on`);
}

function requireSize(value: number, what: string, minimum: number): number {
  if (Number.isSafeInteger(value) && value >= minimum) return value;
  throw invalid(`${what} has an offset or size of ${value} bytes`);
}

function invalid(message: string): Qcow2fsError {
  return new Qcow2fsError('DAMAGED', message);
}

function unmapped(offset: number): Qcow2fsError {
  return new Qcow2fsError('DAMAGED', `the volume has nothing mapped at offset ${offset}`, { data: { offset } });
}
