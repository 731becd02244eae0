/**
 * `struct fuse_setattr_in`, 88 bytes, of which is looked at:
 * | offset | size | field |
 * |--------|------|-------|
 * |      0 |    4 | valid |
 * |     16 |    8 | size  |
 */

import { readU64LE } from '../../common/bytes.ts';
import { IN_HEADER_BYTES } from './headers.ts';

export const SETATTR_IN_BYTES = 88;

/** Bits of `valid`: which fields are to be set. */
export const FATTR_MODE = 1 << 0;
export const FATTR_UID = 1 << 1;
export const FATTR_GID = 1 << 2;
export const FATTR_SIZE = 1 << 3;

export function setattrInValid(request: Buffer): number {
  return request.readUInt32LE(IN_HEADER_BYTES);
}

export function setattrInSize(request: Buffer): number {
  return readU64LE(request, IN_HEADER_BYTES + 16);
}
