/**
 * L2 entries as 32-bit words in the byte order of this machine, as they come from the file: an image has millions of them, and most
 * are only to be told from nothing, or from one another. For what the bits mean, see `wire/table-entries.ts`.
 */

import os from 'node:os';

const isLittleEndian = os.endianness() === 'LE';

/** A big-endian word of the file as a word of this machine, and the other way round. */
export function swapWord(word: number): number {
  if (!isLittleEndian) return word;
  return ((word & 0xff) << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24);
}

/** QCOW_OFLAG_COPIED (bit 63) in the first word of an entry: it says nothing about bytes, but in an image with a data file. */
export const RAW_COPIED = swapWord(0x8000_0000 | 0);
/** QCOW_OFLAG_COMPRESSED (bit 62) in the first word. */
export const RAW_COMPRESSED = swapWord(0x4000_0000);
/** QCOW_OFLAG_ZERO (bit 0) in the second word. */
export const RAW_ZERO = swapWord(1);
/** The host offset (bits 9-55) in both words. */
export const RAW_OFFSET_HIGH = swapWord(0x00ff_ffff);
export const RAW_OFFSET_LOW = swapWord(0xffff_fe00 | 0);

/** The bits in which the first words of two entries may differ that mean the same. See `hasCluster` for data files. */
export function meaninglessBits({ hasDataFile }: { readonly hasDataFile: boolean }): number {
  return hasDataFile ? 0 : RAW_COPIED;
}
