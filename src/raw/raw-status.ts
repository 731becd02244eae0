/** What a raw file says about a range, as QEMU tells it (raw_co_block_status, block/file-posix.c): data, or a hole. */

import type { BlockStatus, StatusSource } from '../disk/block-status.ts';
import { type FileRange, rangeAt } from '../storage/file-holes.ts';
import type { OpenFile } from '../storage/file-storage.ts';

const SECTOR_BYTES = 512;

export class RawStatus implements StatusSource {
  /** Whole sectors. */
  readonly sizeBytes: number;
  readonly #file: OpenFile;
  readonly #range: FileRange = { isHole: false, end: 0 };

  constructor(file: OpenFile) {
    this.#file = file;
    this.sizeBytes = Math.ceil(file.sizeBytes / SECTOR_BYTES) * SECTOR_BYTES;
  }

  statusAt(offset: number, maxLengthBytes: number, into: BlockStatus): void {
    const range = this.#range;
    // Behind the last byte, up to a whole sector, QEMU finds a hole.
    range.isHole = true;
    range.end = this.sizeBytes;
    if (offset < this.#file.sizeBytes) rangeAt(this.#file, offset, range);
    into.isZero = range.isHole;
    into.isData = !range.isHole;
    into.isDamaged = false;
    into.hostOffset = offset;
    into.lengthBytes = Math.min(maxLengthBytes, this.sizeBytes - offset, range.end - offset);
  }
}
