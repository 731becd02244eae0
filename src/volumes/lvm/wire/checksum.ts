/**
 * The checksum of labels, metadata areas and metadata texts (lib/misc/crc.c of lvm2): CRC-32 with an initial value of its own,
 * and the result not inverted.
 */

import { crc32 } from '../../../common/crc32.ts';

/** INITIAL_CRC in lib/misc/crc.h. */
const INITIAL_CRC = 0xf597_a6cf;

/** The checksum of `bytes`, as an unsigned number. */
export function lvmChecksum(bytes: Uint8Array): number {
  return crc32(bytes, INITIAL_CRC);
}
