/** A range of a disk as a disk of its own. */

import type { Disk, Extent } from './disk.ts';
import { countOrAssumeAllocated } from './walk.ts';

export class WindowDisk implements Disk {
  readonly sizeBytes: number;
  readonly #disk: Disk;
  readonly #start: number;

  /** The window is [`start`, `start` + `sizeBytes`), all within `disk`. */
  constructor(disk: Disk, start: number, sizeBytes: number) {
    this.#disk = disk;
    this.#start = start;
    this.sizeBytes = sizeBytes;
  }

  extentAt(offset: number, maxLengthBytes: number, into: Extent): void {
    this.#disk.extentAt(this.#start + offset, Math.min(maxLengthBytes, this.sizeBytes - offset), into);
  }

  readAt(target: Buffer, targetOffset: number, offset: number, length: number): void {
    this.#disk.readAt(target, targetOffset, this.#start + offset, length);
  }

  /** Exact while a walk over the whole disk would not read too much; otherwise all of the window. */
  allocatedBytes(): number {
    return countOrAssumeAllocated(this);
  }

  metadataBytes(): number {
    return this.#disk.metadataBytes();
  }
}
