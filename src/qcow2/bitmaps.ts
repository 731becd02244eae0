/** Persistent bitmaps: their directory, with the rules of QEMU (block/qcow2-bitmap.c: bitmap_list_load). */

import { messageOf, Qcow2fsError } from '../errors.ts';
import { readExactly } from '../storage/storage.ts';
import { readExtensions } from './header-extensions.ts';
import {
  MAX_BITMAP_BYTES,
  MAX_BITMAP_COUNT,
  MAX_BITMAP_DIRECTORY_BYTES,
  MAX_BITMAP_GRANULARITY_BITS,
  MAX_BITMAP_NAME_BYTES,
  MAX_BITMAP_NAMES_BYTES,
  MAX_BITMAP_TABLE_SIZE,
  MIN_BITMAP_GRANULARITY_BITS,
} from './limits.ts';
import type { Qcow2File } from './open-qcow2.ts';
import {
  BITMAP_DIRECTORY_ENTRY_BYTES,
  BITMAPS_EXTENSION_BYTES,
  type BitmapDirectoryEntry,
  type BitmapsExtension,
  BME_FLAG_IN_USE,
  BME_RESERVED_FLAGS,
  BT_DIRTY_TRACKING_BITMAP,
  decodeBitmapDirectoryEntry,
  decodeBitmapsExtension,
} from './wire/bitmaps.ts';
import { QCOW2_AUTOCLEAR_BITMAPS } from './wire/header.ts';
import { QCOW2_EXT_MAGIC_BITMAPS } from './wire/header-extensions.ts';

export interface Bitmap extends BitmapDirectoryEntry {
  /** One character per byte (latin1). */
  readonly name: string;
}

export interface BitmapDirectory {
  readonly offset: number;
  readonly bytes: number;
  readonly bitmaps: readonly Bitmap[];
}

export interface BitmapList {
  readonly bitmaps: readonly Bitmap[];
  /** False if a program that does not know bitmaps wrote to the image since: they may lack any of its writes. */
  readonly areUpToDate: boolean;
  /** What is wrong with the list, one line each. */
  readonly problems: readonly string[];
}

/** Lists the bitmaps of an image. Nothing else depends on them, so nothing is thrown: it is told in `problems`. */
export function listBitmaps(file: Qcow2File): BitmapList {
  const areUpToDate = (file.header.autoclearFeatures & QCOW2_AUTOCLEAR_BITMAPS) !== 0n;
  try {
    const { byType } = readExtensions(file.storage, file.header, file.clusterBytes);
    const extension = byType.get(QCOW2_EXT_MAGIC_BITMAPS);
    if (extension === undefined) return { bitmaps: [], areUpToDate, problems: [] };
    const { bitmaps } = readBitmapDirectory(file, extension.data);
    const stale =
      'autoclear feature bit 0 is not set: a program that does not know the persistent bitmaps wrote to the image, ' +
      'so they are stale';
    return { bitmaps, areUpToDate, problems: areUpToDate || bitmaps.length === 0 ? [] : [stale] };
  } catch (error) {
    if (!(error instanceof Qcow2fsError)) throw error;
    return { bitmaps: [], areUpToDate, problems: [`the persistent bitmaps are not shown: ${messageOf(error)}`] };
  }
}

/**
 * Reads the directory that the data of the header extension refers to.
 * @throws Qcow2fsError DAMAGED or PAST_END if any of it is wrong, as QEMU does not use it then; IO.
 */
export function readBitmapDirectory(file: Qcow2File, extension: Buffer): BitmapDirectory {
  const { bitmapCount, directoryBytes, directoryOffset } = decodeExtension(extension, file.clusterBytes);
  const bitmaps: Bitmap[] = [];
  let at = 0;
  let namesBytes = 0;
  for (let index = 0; index < bitmapCount; index++) {
    const bitmap = readEntry(file, index, directoryOffset + at, directoryBytes - at);
    at += bitmap.entryBytes;
    namesBytes += bitmap.nameBytes;
    if (namesBytes > MAX_BITMAP_NAMES_BYTES) throw damaged(`all names together exceed ${MAX_BITMAP_NAMES_BYTES} bytes`);
    bitmaps.push(bitmap);
  }
  if (at !== directoryBytes) {
    throw damaged(
      `their directory at offset ${directoryOffset} has ${directoryBytes} bytes, but its ${bitmapCount} entries have ${at}`,
    );
  }
  return { offset: directoryOffset, bytes: directoryBytes, bitmaps };
}

function decodeExtension(data: Buffer, clusterBytes: number): BitmapsExtension {
  if (data.length !== BITMAPS_EXTENSION_BYTES) throw damaged(`their header extension has ${data.length} bytes`);
  const extension = decodeBitmapsExtension(data);
  const { bitmapCount, reserved, directoryBytes, directoryOffset } = extension;
  if (reserved !== 0) throw damaged(`the reserved field of their header extension is ${reserved}`);
  const where = `their directory at offset ${directoryOffset}`;
  if (bitmapCount === 0) throw damaged(`${where} has no entries`);
  if (bitmapCount > MAX_BITMAP_COUNT)
    throw damaged(`${where} has ${bitmapCount} entries, more than ${MAX_BITMAP_COUNT}`);
  if (directoryBytes > MAX_BITMAP_DIRECTORY_BYTES) {
    throw damaged(`${where} has ${directoryBytes} bytes, more than ${MAX_BITMAP_DIRECTORY_BYTES}`);
  }
  if (directoryOffset % clusterBytes !== 0) throw damaged(`${where} is not cluster aligned`);
  return extension;
}

function readEntry(file: Qcow2File, index: number, offset: number, maxBytes: number): Bitmap {
  const label = `bitmap directory entry ${index}`;
  const where = `${label} at offset ${offset}`;
  if (maxBytes < BITMAP_DIRECTORY_ENTRY_BYTES) throw damaged(`${where} runs past the directory`);
  const fixed = Buffer.alloc(BITMAP_DIRECTORY_ENTRY_BYTES);
  readExactly(file.storage, fixed, 0, fixed.length, offset, label);
  const entry = decodeBitmapDirectoryEntry(fixed);
  if (entry.entryBytes > maxBytes) throw damaged(`${where} runs past the directory`);
  const problem = entryProblem(entry, file);
  if (problem !== undefined) throw damaged(`${where}: ${problem}`);
  const name = Buffer.alloc(entry.nameBytes);
  readExactly(file.storage, name, 0, name.length, offset + BITMAP_DIRECTORY_ENTRY_BYTES, label);
  return { ...entry, name: name.toString('latin1') };
}

/** QEMU's check_dir_entry, and what load_bitmap_data asks of a table: either keeps QEMU from opening the image. */
function entryProblem(entry: BitmapDirectoryEntry, { clusterBytes, sizeBytes }: Qcow2File): string | undefined {
  const { tableOffset, tableSize, flags, type, granularityBits, nameBytes, extraDataBytes } = entry;
  if (tableOffset === 0 || tableOffset % clusterBytes !== 0) {
    return `bitmap_table_offset is ${tableOffset}, which is not cluster aligned`;
  }
  if (tableSize === 0 || tableSize > MAX_BITMAP_TABLE_SIZE) {
    return `bitmap_table_size is ${tableSize}, but must be 1 to ${MAX_BITMAP_TABLE_SIZE}`;
  }
  if ((flags & BME_RESERVED_FLAGS) !== 0) return `flags is 0x${flags.toString(16)}, with unknown bits`;
  if (type !== BT_DIRTY_TRACKING_BITMAP) return `type is ${type}, which is not known`;
  if (granularityBits < MIN_BITMAP_GRANULARITY_BITS || granularityBits > MAX_BITMAP_GRANULARITY_BITS) {
    const range = `${MIN_BITMAP_GRANULARITY_BITS} to ${MAX_BITMAP_GRANULARITY_BITS}`;
    return `granularity_bits is ${granularityBits}, but must be ${range}`;
  }
  if (nameBytes === 0 || nameBytes > MAX_BITMAP_NAME_BYTES) {
    return `name_size is ${nameBytes}, but must be 1 to ${MAX_BITMAP_NAME_BYTES}`;
  }
  const bitmapBytes = tableSize * clusterBytes;
  if (bitmapBytes > MAX_BITMAP_BYTES) {
    return `bitmap_table_size is ${tableSize}, which are ${bitmapBytes} bytes, more than ${MAX_BITMAP_BYTES}`;
  }
  const wanted = Math.ceil(serializedBytes(sizeBytes, granularityBits) / clusterBytes);
  if ((flags & BME_FLAG_IN_USE) === 0 && tableSize !== wanted) {
    return `bitmap_table_size is ${tableSize}, but must be ${wanted} for a disk of ${sizeBytes} bytes`;
  }
  if (extraDataBytes !== 0) return `extra_data_size is ${extraDataBytes}, but no extra data is known`;
  return undefined;
}

/** Of a bitmap as it is stored: whole words of 64 bits. */
function serializedBytes(diskBytes: number, granularityBits: number): number {
  return Math.ceil(diskBytes / 2 ** granularityBits / 64) * 8;
}

function damaged(what: string): Qcow2fsError {
  return new Qcow2fsError('DAMAGED', what);
}
