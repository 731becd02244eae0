/**
 * FUSE_LSEEK.
 * `struct fuse_lseek_in`, 24 bytes: fh u64 @0, offset i64 @8, whence u32 @16.
 * `struct fuse_lseek_out`, 8 bytes: offset u64 @0.
 */

import { writeU64LE } from '../../common/bytes.ts';
import { IN_HEADER_BYTES } from './headers.ts';

/** `whence` of lseek(2); the kernel answers the other ones itself. */
export const SEEK_DATA = 3;
export const SEEK_HOLE = 4;

export const LSEEK_IN_BYTES = 24;

export interface LseekIn {
  /** May be negative, and is rounded above 2^53: both lie outside every file. */
  readonly offset: number;
  readonly whence: number;
}

export function decodeLseekIn(request: Buffer): LseekIn {
  return {
    offset: Number(request.readBigInt64LE(IN_HEADER_BYTES + 8)),
    whence: request.readUInt32LE(IN_HEADER_BYTES + 16),
  };
}

export function encodeLseekOut(reply: Buffer, offset: number, found: number): number {
  writeU64LE(reply, found, offset);
  return 8;
}
