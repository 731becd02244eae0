/**
 * FUSE_WRITE and FUSE_FALLOCATE.
 *
 * `struct fuse_write_in`, 40 bytes, then the data:      `struct fuse_fallocate_in`, 32 bytes:
 * | offset | size | field           |                  | offset | size | field           |
 * |--------|------|-----------------|                  |--------|------|-----------------|
 * |      0 |    8 | fh              |                  |      0 |    8 | fh              |
 * |      8 |    8 | offset          |                  |      8 |    8 | offset          |
 * |     16 |    4 | size            |                  |     16 |    8 | length          |
 * |     20 |    4 | write_flags     |                  |     24 |    4 | mode            |
 *
 * `struct fuse_write_out`, 8 bytes: size u32 @0.
 */

import { readU64LE } from '../../common/bytes.ts';
import { IN_HEADER_BYTES } from './headers.ts';

export const WRITE_IN_BYTES = 40;
export const FALLOCATE_IN_BYTES = 32;
export const WRITE_OUT_BYTES = 8;

/** Where the data begins in the request. */
export const WRITE_DATA_OFFSET = IN_HEADER_BYTES + WRITE_IN_BYTES;

/** Bits of `mode`: include/uapi/linux/falloc.h. */
export const FALLOC_FL_KEEP_SIZE = 0x01;
export const FALLOC_FL_PUNCH_HOLE = 0x02;
export const FALLOC_FL_ZERO_RANGE = 0x10;

export interface FallocateIn {
  readonly offset: number;
  readonly length: number;
  readonly mode: number;
}

export function writeInOffset(request: Buffer): number {
  return readU64LE(request, IN_HEADER_BYTES + 8);
}

export function writeInSize(request: Buffer): number {
  return request.readUInt32LE(IN_HEADER_BYTES + 16);
}

export function decodeFallocateIn(request: Buffer): FallocateIn {
  return {
    offset: readU64LE(request, IN_HEADER_BYTES + 8),
    length: readU64LE(request, IN_HEADER_BYTES + 16),
    mode: request.readUInt32LE(IN_HEADER_BYTES + 24),
  };
}

export function encodeWriteOut(reply: Buffer, offset: number, size: number): number {
  reply.writeUInt32LE(size, offset);
  reply.writeUInt32LE(0, offset + 4);
  return WRITE_OUT_BYTES;
}
