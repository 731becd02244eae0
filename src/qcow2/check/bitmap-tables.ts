/** The clusters of persistent bitmaps: their directory, a table for each, and what the tables refer to. */

import { messageOf, Qcow2fsError } from '../../errors.ts';
import { type BitmapDirectory, readBitmapDirectory } from '../bitmaps.ts';
import { hasReservedBitmapBits, isAllOnesEntry } from '../wire/bitmaps.ts';
import { QCOW2_AUTOCLEAR_BITMAPS } from '../wire/header.ts';
import { entryOffset } from '../wire/table-entries.ts';
import type { CheckedImage } from './checked-image.ts';
import { MetadataTables } from './metadata-tables.ts';
import { CLUSTER_USES, type ReferenceWindow } from './reference-window.ts';

export interface BitmapTables {
  readonly directory: Pick<BitmapDirectory, 'offset' | 'bytes'>;
  /** undefined if there are none. */
  readonly tables: MetadataTables | undefined;
}

const NO_BITMAPS: BitmapTables = { directory: { offset: 0, bytes: 0 }, tables: undefined };

/**
 * Reads the directory of the bitmaps, if the image has valid ones: a writer that does not know them clears the autoclear
 * bit, and their clusters are leaks from then on.
 * @throws Qcow2fsError IO.
 */
export function findBitmapTables(image: CheckedImage, extension: Buffer | undefined): BitmapTables {
  if (extension === undefined || (image.file.header.autoclearFeatures & QCOW2_AUTOCLEAR_BITMAPS) === 0n) {
    return NO_BITMAPS;
  }
  try {
    const directory = readBitmapDirectory(image.file, extension);
    const tables = directory.bitmaps.map(({ tableOffset, tableSize }) => ({
      offset: tableOffset,
      size: tableSize,
    }));
    return { directory, tables: new MetadataTables(image, tables, CLUSTER_USES.other) };
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
export function countBitmaps(image: CheckedImage, { directory, tables }: BitmapTables, window: ReferenceWindow): void {
  window.add(directory.offset, directory.bytes, 1, CLUSTER_USES.other);
  tables?.countClusters(window);
  const { clusterBytes, log } = image;
  tables?.forEachEntry((high, low, position, { times }) => {
    const data = entryOffset(high, low);
    if (hasReservedBitmapBits(high, low) || (data !== 0 && (isAllOnesEntry(low) || data % clusterBytes !== 0))) {
      if (!window.isFirstPass) return;
      log.add('bitmap', position, times, () => 'an entry of the table of a persistent bitmap is invalid');
    } else if (data !== 0) {
      window.add(data, clusterBytes, times, CLUSTER_USES.other);
    }
  });
}
