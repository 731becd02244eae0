/** Stands for a backing file that is left out: all of it is unknown. */

import { Qcow2fsError } from '../errors.ts';
import type { Disk, Extent } from './disk.ts';

export class MissingDisk implements Disk {
  readonly sizeBytes = Number.MAX_SAFE_INTEGER;
  readonly #imagePath: string;

  constructor(imagePath: string) {
    this.#imagePath = imagePath;
  }

  extentAt(_offset: number, maxLengthBytes: number, into: Extent): void {
    into.kind = 'damaged';
    into.lengthBytes = maxLengthBytes;
    into.hostOffset = -1;
    into.depth = 0;
  }

  readAt(_target: Buffer, _targetOffset: number, offset: number, length: number): void {
    throw new Qcow2fsError(
      'IO',
      `${this.#imagePath}: ${length} bytes at guest offset ${offset} come from its backing file, which was left out`,
      { data: { file: this.#imagePath, offset, length } },
    );
  }

  allocatedBytes(): number {
    return this.sizeBytes;
  }

  metadataBytes(): number {
    return 0;
  }
}
