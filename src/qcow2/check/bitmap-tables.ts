/** The clusters of persistent bitmaps: their directory, a table for each, and what the tables refer to. */

import { messageOf, Qcow2fsError } from '../../errors.ts';
import { type BitmapDirectory, readBitmapDirectory } from '../bitmaps.ts';
import { hasReservedBitmapBits, isAllOnesEntry } from '../wire/bitmaps.ts';
import { QCOW2_AUTOCLEAR_BITMAPS } from '../wire/header.ts';
import { entryOffset } from '../wire/table-entries.ts';
import type { CheckedImage } from './checked-image.ts';
import { readZeroPadded } from './read-zero-padded.ts';
import { CLUSTER_USES, type ReferenceWindow } from './reference-window.ts';

const CHUNK_BYTES = 64 * 1024;

const NO_BITMAPS: BitmapDirectory = { offset: 0, bytes: 0, bitmaps: [] };

/**
 * Reads the directory of the bitmaps, if the image has valid ones: a writer that does not know them clears the autoclear
 * bit, and their clusters are leaks from then on.
 * @throws Qcow2fsError IO.
 */
export function findBitmaps(image: CheckedImage, extension: Buffer | undefined): BitmapDirectory {
  if (extension === undefined || (image.file.header.autoclearFeatures & QCOW2_AUTOCLEAR_BITMAPS) === 0n) {
    return NO_BITMAPS;
  }
  try {
    return readBitmapDirectory(image.file, extension);
  } catch (error) {
    if (!(error instanceof Qcow2fsError) || error.code === 'IO') throw error;
    image.log.add('unchecked', 0, 1, () => `the persistent bitmaps cannot be counted: ${messageOf(error)}`);
    return NO_BITMAPS;
  }
}

/**
 * Counts the references of all bitmaps.
 * @throws Qcow2fsError IO.
 */
export function countBitmaps(image: CheckedImage, directory: BitmapDirectory, window: ReferenceWindow): void {
  window.add(directory.offset, directory.bytes, 1, CLUSTER_USES.other);
  for (const { tableOffset, tableSize } of directory.bitmaps) {
    window.add(tableOffset, tableSize * 8, 1, CLUSTER_USES.other);
    countTable(image, tableOffset, tableSize, window);
  }
}

function countTable({ file, clusterBytes, log }: CheckedImage, offset: number, size: number, window: ReferenceWindow) {
  const end = Math.min(size * 8, file.storage.sizeBytes - offset);
  const chunk = Buffer.alloc(CHUNK_BYTES);
  for (let start = 0; start < end; start += CHUNK_BYTES) {
    const length = Math.min(CHUNK_BYTES, size * 8 - start);
    readZeroPadded(file.storage, chunk, length, offset + start);
    for (let at = 0; at < length; at += 8) {
      const high = chunk.readUInt32BE(at);
      const low = chunk.readUInt32BE(at + 4);
      const data = entryOffset(high, low);
      if (hasReservedBitmapBits(high, low) || (data !== 0 && (isAllOnesEntry(low) || data % clusterBytes !== 0))) {
        if (window.isFirstPass) {
          log.add('bitmap', offset + start + at, 1, () => 'an entry of the table of a persistent bitmap is invalid');
        }
      } else if (data !== 0) {
        window.add(data, clusterBytes, 1, CLUSTER_USES.other);
      }
    }
  }
}
