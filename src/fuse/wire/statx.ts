/**
 * `struct fuse_statx_out`, 288 bytes: attr_valid u64 @0, nanoseconds u32 @8, flags u32 @12, spare to 32, then
 * `struct fuse_statx`, 256 bytes, the layout of `struct statx`:
 * | offset | size | field                    |
 * |--------|------|--------------------------|
 * |      0 |    4 | mask                     |
 * |      4 |    4 | blksize                  |
 * |      8 |    8 | attributes               |
 * |     16 |    4 | nlink                    |
 * |     20 |    8 | uid, gid                 |
 * |     28 |    2 | mode                     |
 * |     32 |    8 | ino                      |
 * |     40 |    8 | size                     |
 * |     48 |    8 | blocks (512 bytes)       |
 * |     56 |    8 | attributes_mask          |
 * |     64 |   64 | atime, btime, ctime, mtime: seconds i64, nanoseconds u32, 4 bytes unused each |
 * |    128 |   16 | rdev and dev, each major and minor |
 */

import { writeI64LE, writeU64LE } from '../../common/bytes.ts';
import { encodeValidity, type WireAttributes } from './attr.ts';

export const STATX_OUT_BYTES = 288;

/** STATX_BASIC_STATS | STATX_BTIME of include/uapi/linux/stat.h. */
const STATX_ALL_KNOWN = 0x7ff | 0x800;

export function encodeStatxOut(reply: Buffer, offset: number, attr: WireAttributes, validMs: number): number {
  reply.fill(0, offset, offset + STATX_OUT_BYTES);
  encodeValidity(reply, offset, offset + 8, validMs);
  const statx = offset + 32;
  reply.writeUInt32LE(STATX_ALL_KNOWN, statx);
  reply.writeUInt32LE(attr.blksize, statx + 4);
  reply.writeUInt32LE(attr.nlink, statx + 16);
  reply.writeUInt32LE(attr.uid, statx + 20);
  reply.writeUInt32LE(attr.gid, statx + 24);
  reply.writeUInt16LE(attr.mode, statx + 28);
  writeU64LE(reply, attr.ino, statx + 32);
  writeU64LE(reply, attr.size, statx + 40);
  writeU64LE(reply, attr.blocks, statx + 48);
  for (const time of [64, 80, 96, 112]) {
    writeI64LE(reply, attr.seconds, statx + time);
    reply.writeUInt32LE(attr.nanoseconds, statx + time + 8);
  }
  return STATX_OUT_BYTES;
}
