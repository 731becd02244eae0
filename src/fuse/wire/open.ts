/**
 * FUSE_OPEN and FUSE_OPENDIR.
 * `struct fuse_open_in`: flags u32 @0 (those of open(2)), open_flags u32 @4.
 * `struct fuse_open_out`, 16 bytes: fh u64 @0, open_flags u32 @8, backing_id i32 @12.
 */

import { IN_HEADER_BYTES } from './headers.ts';

/** Bits of `open_flags` in the reply. */
export const FOPEN_DIRECT_IO = 1 << 0;
export const FOPEN_KEEP_CACHE = 1 << 1;
export const FOPEN_CACHE_DIR = 1 << 3;

export const OPEN_OUT_BYTES = 16;

/** O_ACCMODE and O_TRUNC of include/uapi/asm-generic/fcntl.h; O_RDONLY is 0. */
const O_ACCMODE = 0o3;
const O_TRUNC = 0o1000;

/** True when the caller of open(2) wants to change the file. */
export function isOpenForWriting(request: Buffer): boolean {
  return (request.readUInt32LE(IN_HEADER_BYTES) & (O_ACCMODE | O_TRUNC)) !== 0;
}

/** `fh` is always 0: an open file is its node. */
export function encodeOpenOut(reply: Buffer, offset: number, openFlags: number): number {
  reply.fill(0, offset, offset + OPEN_OUT_BYTES);
  reply.writeUInt32LE(openFlags, offset + 8);
  return OPEN_OUT_BYTES;
}
