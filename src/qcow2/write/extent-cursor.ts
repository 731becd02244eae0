/** The extents of a disk, each looked up once on a way from the beginning to the end of the disk. */

import { createExtent, type Disk, type ExtentKind } from '../../disk/disk.ts';

/** Stands at an offset: `kind`, `depth` and `hostOffset` are those of that byte, as in `Extent`. */
export class ExtentCursor {
  readonly #disk: Disk | undefined;
  readonly #extent = createExtent();
  #start = 0;
  #at = 0;
  /** Where the extent ends: behind the end of the disk, where a backing file reads as zeros, nowhere. */
  end = 0;

  /** undefined: a disk that is one hole. */
  constructor(disk: Disk | undefined) {
    this.#disk = disk;
  }

  get kind(): ExtentKind {
    return this.#extent.kind;
  }

  get depth(): number {
    return this.#extent.depth;
  }

  get hostOffset(): number {
    const { hostOffset } = this.#extent;
    return hostOffset < 0 ? hostOffset : hostOffset + this.#at - this.#start;
  }

  /** A step back costs a look-up. @throws Qcow2fsError as `Disk.extentAt`. */
  moveTo(offset: number): void {
    this.#at = offset;
    if (offset >= this.#start && offset < this.end) return;
    this.#start = offset;
    const rest = (this.#disk?.sizeBytes ?? 0) - offset;
    if (this.#disk !== undefined && rest > 0) {
      this.#disk.extentAt(offset, rest, this.#extent);
      this.end = offset + this.#extent.lengthBytes;
    } else {
      Object.assign(this.#extent, createExtent());
      this.end = Number.POSITIVE_INFINITY;
    }
  }
}
