/** A raw file as a Disk. */

import type { Disk, Extent } from '../disk/disk.ts';
import { pastEnd, type Storage } from '../storage/storage.ts';

const SECTOR_BYTES = 512;

/**
 * Every byte counts as data: Node.js has no lseek(2), so the holes of the file cannot be asked for.
 *
 * QEMU rounds the size of a raw file up to a sector and reads zeros behind the last byte (block/file-posix.c), so
 * the disk does the same.
 */
export class RawDisk implements Disk {
  readonly sizeBytes: number;
  readonly #storage: Storage;

  constructor(storage: Storage) {
    this.#storage = storage;
    this.sizeBytes = Math.ceil(storage.sizeBytes / SECTOR_BYTES) * SECTOR_BYTES;
  }

  extentAt(offset: number, maxLengthBytes: number, into: Extent): void {
    into.kind = 'data';
    into.lengthBytes = Math.min(maxLengthBytes, this.sizeBytes - offset);
    into.hostOffset = offset;
    into.depth = 0;
  }

  readAt(target: Buffer, targetOffset: number, offset: number, length: number): void {
    const stored = Math.max(0, Math.min(length, this.#storage.sizeBytes - offset));
    const count = this.#storage.readUpTo(target, targetOffset, stored, offset);
    if (count !== stored) throw pastEnd(this.#storage, offset, stored, 'the raw data');
    if (stored < length) target.fill(0, targetOffset + stored, targetOffset + length);
  }

  allocatedBytes(): number {
    return this.sizeBytes;
  }

  metadataBytes(): number {
    return 0;
  }
}
