/** A range of a disk as a disk of its own, which can be written if that disk can. */

import type { Disk, Extent } from './disk.ts';
import { countOrAssumeAllocated } from './walk.ts';
import { requireWritable, type WritableDisk } from './writable-disk.ts';

export class WindowDisk implements WritableDisk {
  readonly sizeBytes: number;
  /** What it is a window on, and where on that it starts. */
  readonly disk: Disk;
  readonly start: number;

  /** The window is [`start`, `start` + `sizeBytes`), all within `disk`. */
  constructor(disk: Disk, start: number, sizeBytes: number) {
    this.disk = disk;
    this.start = start;
    this.sizeBytes = sizeBytes;
  }

  extentAt(offset: number, maxLengthBytes: number, into: Extent): void {
    this.disk.extentAt(this.start + offset, Math.min(maxLengthBytes, this.sizeBytes - offset), into);
  }

  readAt(target: Buffer, targetOffset: number, offset: number, length: number): void {
    this.disk.readAt(target, targetOffset, this.start + offset, length);
  }

  writeAt(source: Buffer, sourceOffset: number, offset: number, length: number): void {
    requireWritable(this.disk).writeAt(source, sourceOffset, this.start + offset, length);
  }

  discardAt(offset: number, length: number): void {
    requireWritable(this.disk).discardAt(this.start + offset, length);
  }

  sync(): void {
    requireWritable(this.disk).sync();
  }

  /** Exact while a walk over the whole disk would not read too much; otherwise all of the window. */
  allocatedBytes(): number {
    return countOrAssumeAllocated(this);
  }

  metadataBytes(): number {
    return this.disk.metadataBytes();
  }
}
