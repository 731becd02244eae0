/** The contract of a disk whose bytes can be changed. */

import { Qcow2fsError } from '../errors.ts';
import type { Disk } from './disk.ts';

export interface WritableDisk extends Disk {
  /**
   * Writes exactly `length` bytes of `source` from `sourceOffset` on at `offset`, all within the disk.
   * @throws Qcow2fsError NO_SPACE, or what reading the rest of a block throws; nothing is changed then.
   */
  writeAt(source: Buffer, sourceOffset: number, offset: number, length: number): void;
  /** Makes a range, all within the disk, read as zeros. @throws as `writeAt`. */
  discardAt(offset: number, length: number): void;
  /** Returns when all that was written is kept as safely as it ever will be. @throws Qcow2fsError IO. */
  sync(): void;
}

/** @throws Qcow2fsError READ_ONLY for a disk that cannot be written. */
export function requireWritable(disk: Disk): WritableDisk {
  if ('writeAt' in disk) return disk as WritableDisk;
  throw new Qcow2fsError('READ_ONLY', 'this disk cannot be written');
}
