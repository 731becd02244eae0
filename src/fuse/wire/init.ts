/**
 * FUSE_INIT: which version and which features both sides use.
 *
 * `struct fuse_init_in`: 16 bytes before 7.36, 64 since then:
 * | offset | size | field           |
 * |--------|------|-----------------|
 * |      0 |    4 | major           |
 * |      4 |    4 | minor           |
 * |      8 |    4 | max_readahead   |
 * |     12 |    4 | flags           |
 * |     16 |    4 | flags2          |
 *
 * `struct fuse_init_out`, 64 bytes since 7.23, what is not listed is zero:
 * | offset | size | field           |
 * |--------|------|-----------------|
 * |      0 |    4 | major           |
 * |      4 |    4 | minor           |
 * |      8 |    4 | max_readahead   |
 * |     12 |    4 | flags           |
 * |     16 |    2 | max_background  |
 * |     18 |    2 | congestion_threshold |
 * |     20 |    4 | max_write       |
 * |     24 |    4 | time_gran       |
 * |     28 |    2 | max_pages       |
 * |     32 |    4 | flags2          |
 */

import { IN_HEADER_BYTES } from './headers.ts';

export const FUSE_KERNEL_VERSION = 7;

/** Bits of `flags`. */
export const FUSE_ASYNC_READ = 1 << 0;
export const FUSE_BIG_WRITES = 1 << 5;
export const FUSE_DO_READDIRPLUS = 1 << 13;
export const FUSE_READDIRPLUS_AUTO = 1 << 14;
export const FUSE_ASYNC_DIO = 1 << 15;
export const FUSE_PARALLEL_DIROPS = 1 << 18;
export const FUSE_ABORT_ERROR = 1 << 21;
export const FUSE_MAX_PAGES = 1 << 22;
export const FUSE_CACHE_SYMLINKS = 1 << 23;
/** `flags2` counts. */
export const FUSE_INIT_EXT = 1 << 30;

/** Bits of `flags2`; the header numbers them from 32 on. */
export const FUSE_DIRECT_IO_ALLOW_MMAP = 1 << 4;

export const INIT_OUT_BYTES = 64;
/** Length of the request before 7.36, and so the least that is always there. */
const INIT_IN_BYTES_BEFORE_FLAGS2 = 16;

export interface InitIn {
  readonly major: number;
  readonly minor: number;
  readonly maxReadahead: number;
  readonly flags: number;
  /** 0 when the kernel does not have it. */
  readonly flags2: number;
}

export interface InitOut extends InitIn {
  readonly maxBackground: number;
  readonly congestionThreshold: number;
  readonly maxWrite: number;
  readonly timeGran: number;
  readonly maxPages: number;
}

/** A kernel of another major version may send less than the 16 bytes: what is missing is 0. */
export function decodeInitIn(request: Buffer, requestBytes: number): InitIn {
  const bodyBytes = requestBytes - IN_HEADER_BYTES;
  const isWhole = bodyBytes >= INIT_IN_BYTES_BEFORE_FLAGS2;
  const flags = isWhole ? request.readUInt32LE(IN_HEADER_BYTES + 12) : 0;
  const hasFlags2 = (flags & FUSE_INIT_EXT) !== 0 && bodyBytes >= INIT_IN_BYTES_BEFORE_FLAGS2 + 4;
  return {
    major: request.readUInt32LE(IN_HEADER_BYTES),
    minor: request.readUInt32LE(IN_HEADER_BYTES + 4),
    maxReadahead: isWhole ? request.readUInt32LE(IN_HEADER_BYTES + 8) : 0,
    flags,
    flags2: hasFlags2 ? request.readUInt32LE(IN_HEADER_BYTES + 16) : 0,
  };
}

export function encodeInitOut(reply: Buffer, offset: number, out: InitOut): number {
  reply.fill(0, offset, offset + INIT_OUT_BYTES);
  reply.writeUInt32LE(out.major, offset);
  reply.writeUInt32LE(out.minor, offset + 4);
  reply.writeUInt32LE(out.maxReadahead, offset + 8);
  reply.writeUInt32LE(out.flags >>> 0, offset + 12);
  reply.writeUInt16LE(out.maxBackground, offset + 16);
  reply.writeUInt16LE(out.congestionThreshold, offset + 18);
  reply.writeUInt32LE(out.maxWrite, offset + 20);
  reply.writeUInt32LE(out.timeGran, offset + 24);
  reply.writeUInt16LE(out.maxPages, offset + 28);
  reply.writeUInt32LE(out.flags2 >>> 0, offset + 32);
  return INIT_OUT_BYTES;
}
