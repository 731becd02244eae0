/**
 * `struct fuse_read_in`, 40 bytes, of FUSE_READ, FUSE_READDIR and FUSE_READDIRPLUS:
 * | offset | size | field                                        |
 * |--------|------|----------------------------------------------|
 * |      0 |    8 | fh                                           |
 * |      8 |    8 | offset; of a directory: the cookie           |
 * |     16 |    4 | size                                         |
 * |     20 |    4 | read_flags                                   |
 * |     24 |    8 | lock_owner                                   |
 * |     32 |    4 | flags                                        |
 *
 * Read field by field, since an object for each READ would be garbage on the busiest path.
 */

import { readU64LE } from '../../common/bytes.ts';
import { IN_HEADER_BYTES } from './headers.ts';

export const READ_IN_BYTES = 40;

export function readInOffset(request: Buffer): number {
  return readU64LE(request, IN_HEADER_BYTES + 8);
}

export function readInSize(request: Buffer): number {
  return request.readUInt32LE(IN_HEADER_BYTES + 16);
}
