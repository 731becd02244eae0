/** A whole state, as this reader and as QEMU read it. */

import fs from 'node:fs';
import { type KeySource, withoutKeys } from '../../src/open-image/layer-keys.ts';
import { closeImage, openImage } from '../../src/open-image/open-image.ts';
import { StateDisks } from '../../src/open-image/state-disks.ts';
import type { MissingRanges } from '../../src/storage/missing-ranges.ts';
import { convertToRaw, mapImage } from './qemu.ts';

export interface Reading {
  readonly state?: number;
  readonly keys?: KeySource;
  /** Given: zeros for what is missing. */
  readonly missing?: MissingRanges;
}

/** All bytes of a state as this reader sees them, in reads of `pieceBytes`. */
export function readByUs(
  path: string,
  { state = 0, keys = withoutKeys, missing }: Reading = {},
  pieceBytes = 40_000,
): Buffer {
  const image = openImage(path, keys);
  try {
    const disk = new StateDisks(image, missing).disk(state);
    const bytes = Buffer.alloc(disk.sizeBytes, 0xee);
    for (let at = 0; at < bytes.length; at += pieceBytes) {
      disk.readAt(bytes, at, at, Math.min(pieceBytes, bytes.length - at));
    }
    return bytes;
  } finally {
    closeImage(image);
  }
}

export function readByQemu(path: string): Buffer {
  convertToRaw(path, `${path}.raw`);
  return fs.readFileSync(`${path}.raw`);
}

/** Where the guest's clusters end in the file. */
export function lastHostOffset(path: string): number {
  return Math.max(...mapImage(path).map(({ offset = 0, length }) => offset + length));
}
