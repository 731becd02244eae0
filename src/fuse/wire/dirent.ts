/**
 * Entries of a directory in the reply to FUSE_READDIR and FUSE_READDIRPLUS.
 *
 * `struct fuse_dirent`, padded to 8 bytes:
 * | offset | size | field                                 |
 * |--------|------|---------------------------------------|
 * |      0 |    8 | ino                                   |
 * |      8 |    8 | off: the cookie of the entry behind it |
 * |     16 |    4 | namelen                               |
 * |     20 |    4 | type: S_IFMT >> 12                    |
 * |     24 |    n | name, not terminated                  |
 *
 * `struct fuse_direntplus` has a `struct fuse_entry_out` (128 bytes) in front of it.
 */

import { writeU64LE } from '../../common/bytes.ts';
import { ENTRY_OUT_BYTES } from './attr.ts';

/** DT_* of readdir(3). */
export const DT_DIR = 4;
export const DT_REG = 8;
export const DT_LNK = 10;

const DIRENT_FIXED_BYTES = 24;

/** Bytes of one record with its padding. */
export function direntBytes(nameBytes: number, isPlus: boolean): number {
  const fixed = isPlus ? ENTRY_OUT_BYTES + DIRENT_FIXED_BYTES : DIRENT_FIXED_BYTES;
  return Math.ceil((fixed + nameBytes) / 8) * 8;
}

/** `name` is latin1: one character per byte. Returns the length of the record. */
export function encodeDirent(
  reply: Buffer,
  offset: number,
  ino: number,
  nextCookie: number,
  type: number,
  name: string,
): number {
  const length = direntBytes(name.length, false);
  writeU64LE(reply, ino, offset);
  writeU64LE(reply, nextCookie, offset + 8);
  reply.writeUInt32LE(name.length, offset + 16);
  reply.writeUInt32LE(type, offset + 20);
  reply.write(name, offset + DIRENT_FIXED_BYTES, name.length, 'latin1');
  reply.fill(0, offset + DIRENT_FIXED_BYTES + name.length, offset + length);
  return length;
}
