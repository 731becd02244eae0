/**
 * The label of a FAT volume: an entry of the root directory. Offsets within an entry of 32 bytes:
 *
 * | offset | size | field                                        |
 * |--------|------|----------------------------------------------|
 * |      0 |   11 | DIR_Name; 0 ends the directory, 0xe5 is free |
 * |     11 |    1 | DIR_Attr                                     |
 * |     20 |    2 | DIR_FstClusHI                                |
 * |     26 |    2 | DIR_FstClusLO                                |
 */

import type { ProbeSource } from './probe-source.ts';

export const DIRECTORY_ENTRY_BYTES = 32;
const NAME_BYTES = 11;
const ATTR_VOLUME_ID = 0x08;
const ATTR_DIRECTORY = 0x10;
const ATTR_LONG_NAME = 0x0f;
const ATTR_MASK = 0x3f;
const ENTRY_FREE = 0xe5;
/** Stands for a first byte of 0xe5. */
const KANJI_E5 = 0x05;

/** A directory has at most 65536 entries. */
const MAX_DIRECTORY_BYTES = 65536 * DIRECTORY_ENTRY_BYTES;
const FIRST_CLUSTER = 2;
const CLUSTER_MASK = 0x0fff_ffff;

/** Where the root directory is: in one place with FAT12 and FAT16, in a chain of clusters with FAT32. */
export interface RootDirectory {
  readonly isFat32: boolean;
  readonly sectorBytes: number;
  readonly fatOffset: number;
  /** Entries of 4 bytes that the FAT has room for. */
  readonly fatEntryCount: number;
  /** Where the root directory, or with FAT32 cluster 2, begins. */
  readonly rootOffset: number;
  readonly rootEntryCount: number;
  readonly rootCluster: number;
  readonly clusterBytes: number;
}

/** The bytes of the label, or undefined if there is none. */
export function findVfatLabel(source: ProbeSource, root: RootDirectory): Buffer | undefined {
  for (const piece of readPieces(source, root)) {
    for (let offset = 0; offset < piece.length; offset += DIRECTORY_ENTRY_BYTES) {
      const entry = piece.subarray(offset, offset + DIRECTORY_ENTRY_BYTES);
      if (entry[0] === 0) return undefined;
      if (isLabel(entry)) return nameOf(entry);
    }
  }
  return undefined;
}

/** The directory sector by sector, as the label is mostly in the first one. */
function* readPieces(source: ProbeSource, root: RootDirectory): Generator<Buffer> {
  let totalBytes = 0;
  for (const { offset, length } of extents(source, root)) {
    for (let done = 0; done < length; done += root.sectorBytes) {
      totalBytes += root.sectorBytes;
      const piece = source.read(offset + done, Math.min(root.sectorBytes, length - done));
      if (piece === undefined || totalBytes > MAX_DIRECTORY_BYTES) return;
      yield piece;
    }
  }
}

/** A chain that runs in a circle ends with the limit for directories. */
function* extents(source: ProbeSource, root: RootDirectory): Generator<{ offset: number; length: number }> {
  if (!root.isFat32) {
    yield { offset: root.rootOffset, length: root.rootEntryCount * DIRECTORY_ENTRY_BYTES };
    return;
  }
  let cluster = root.rootCluster;
  while (cluster >= FIRST_CLUSTER && cluster < root.fatEntryCount) {
    yield { offset: root.rootOffset + (cluster - FIRST_CLUSTER) * root.clusterBytes, length: root.clusterBytes };
    const next = source.read(root.fatOffset + cluster * 4, 4);
    if (next === undefined) return;
    cluster = next.readUInt32LE(0) & CLUSTER_MASK;
  }
}

function isLabel(entry: Buffer): boolean {
  const attributes = entry.readUInt8(11);
  return (
    entry[0] !== ENTRY_FREE &&
    entry.readUInt16LE(20) === 0 &&
    entry.readUInt16LE(26) === 0 &&
    (attributes & ATTR_MASK) !== ATTR_LONG_NAME &&
    (attributes & (ATTR_VOLUME_ID | ATTR_DIRECTORY)) === ATTR_VOLUME_ID
  );
}

function nameOf(entry: Buffer): Buffer {
  const name = Buffer.from(entry.subarray(0, NAME_BYTES));
  if (name[0] === KANJI_E5) name[0] = ENTRY_FREE;
  return name;
}
