/** The clusters of persistent bitmaps: their directory, a table for each, and what the tables refer to. */

import { messageOf, Qcow2fsError } from '../../errors.ts';
import { MAX_BITMAP_COUNT, MAX_BITMAP_DIRECTORY_BYTES, MAX_BITMAP_TABLE_SIZE } from '../limits.ts';
import {
  BITMAP_DIRECTORY_ENTRY_BYTES,
  BITMAPS_EXTENSION_BYTES,
  type BitmapsExtension,
  decodeBitmapDirectoryEntry,
  decodeBitmapsExtension,
  hasReservedBitmapBits,
  isAllOnesEntry,
} from '../wire/bitmaps.ts';
import { QCOW2_AUTOCLEAR_BITMAPS } from '../wire/header.ts';
import { entryOffset } from '../wire/table-entries.ts';
import type { CheckedImage } from './checked-image.ts';
import { readZeroPadded } from './read-zero-padded.ts';
import { CLUSTER_USES, type ReferenceWindow } from './reference-window.ts';

const CHUNK_BYTES = 64 * 1024;

export interface BitmapTables {
  readonly directoryOffset: number;
  readonly directoryBytes: number;
  readonly tables: readonly { readonly offset: number; readonly size: number }[];
}

const NO_BITMAPS: BitmapTables = { directoryOffset: 0, directoryBytes: 0, tables: [] };

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
    return readDirectory(image, decodeExtension(extension, image.clusterBytes));
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
export function countBitmaps(image: CheckedImage, bitmaps: BitmapTables, window: ReferenceWindow): void {
  window.add(bitmaps.directoryOffset, bitmaps.directoryBytes, 1, CLUSTER_USES.other);
  for (const { offset, size } of bitmaps.tables) {
    window.add(offset, size * 8, 1, CLUSTER_USES.other);
    countTable(image, offset, size, window);
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

function decodeExtension(data: Buffer, clusterBytes: number): BitmapsExtension {
  if (data.length !== BITMAPS_EXTENSION_BYTES) throw damaged(`their header extension has ${data.length} bytes`);
  const extension = decodeBitmapsExtension(data);
  const { bitmapCount, directoryBytes, directoryOffset } = extension;
  if (bitmapCount > MAX_BITMAP_COUNT) throw damaged(`${bitmapCount} are too many`);
  if (directoryBytes > MAX_BITMAP_DIRECTORY_BYTES) throw damaged(`their directory has ${directoryBytes} bytes`);
  if (directoryOffset % clusterBytes !== 0) throw damaged('their directory is not cluster aligned');
  return extension;
}

function readDirectory({ file, clusterBytes }: CheckedImage, extension: BitmapsExtension): BitmapTables {
  const { bitmapCount, directoryBytes, directoryOffset } = extension;
  const tables: { offset: number; size: number }[] = [];
  const fixed = Buffer.alloc(BITMAP_DIRECTORY_ENTRY_BYTES);
  let at = 0;
  for (let index = 0; index < bitmapCount; index++) {
    readZeroPadded(file.storage, fixed, fixed.length, directoryOffset + at);
    const { tableOffset, tableSize, entryBytes } = decodeBitmapDirectoryEntry(fixed);
    at += entryBytes;
    if (at > directoryBytes) throw damaged(`entry ${index} runs past their directory`);
    if (tableSize > MAX_BITMAP_TABLE_SIZE) throw damaged(`the table of bitmap ${index} has ${tableSize} entries`);
    if (tableOffset === 0 || tableOffset % clusterBytes !== 0) {
      throw damaged(`the table of bitmap ${index} at ${tableOffset} is not cluster aligned`);
    }
    tables.push({ offset: tableOffset, size: tableSize });
  }
  return { directoryOffset, directoryBytes, tables };
}

function damaged(what: string): Qcow2fsError {
  return new Qcow2fsError('DAMAGED', what);
}
