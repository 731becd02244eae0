/** A range of a disk as a disk of its own. */

import type { Disk, Extent } from './disk.ts';
import { countAllocatedBytes, MAX_EXTENT_LOOKUPS, MAX_WALKED_METADATA_BYTES } from './walk.ts';

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
    if (this.metadataBytes() > MAX_WALKED_METADATA_BYTES) return this.sizeBytes;
    const budget = { left: MAX_EXTENT_LOOKUPS };
    const allocated = countAllocatedBytes(this, 0, this.sizeBytes, budget);
    return budget.left < 0 ? this.sizeBytes : allocated;
  }

  metadataBytes(): number {
    return this.#disk.metadataBytes();
  }
}
