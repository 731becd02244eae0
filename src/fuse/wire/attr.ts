/**
 * Attributes of a node, alone and inside an entry.
 *
 * `struct fuse_attr`, 88 bytes:            | `struct fuse_attr_out`, 104 bytes:
 * | offset | size | field               |  | offset | size | field            |
 * |--------|------|---------------------|  |--------|------|------------------|
 * |      0 |    8 | ino                 |  |      0 |    8 | attr_valid       |
 * |      8 |    8 | size                |  |      8 |    4 | attr_valid_nsec  |
 * |     16 |    8 | blocks (512 bytes)  |  |     16 |   88 | attr             |
 * |     24 |   24 | atime, mtime, ctime |
 * |     48 |   12 | their nanoseconds   |  `struct fuse_entry_out`, 128 bytes:
 * |     60 |    4 | mode                |  | offset | size | field            |
 * |     64 |    4 | nlink               |  |--------|------|------------------|
 * |     68 |    8 | uid, gid            |  |      0 |    8 | nodeid           |
 * |     76 |    4 | rdev                |  |      8 |    8 | generation       |
 * |     80 |    4 | blksize             |  |     16 |    8 | entry_valid      |
 * |     84 |    4 | flags               |  |     24 |    8 | attr_valid       |
 *                                          |     32 |    8 | their nanoseconds|
 *                                          |     40 |   88 | attr             |
 */

import { writeI64LE, writeU64LE } from '../../common/bytes.ts';

export const ATTR_OUT_BYTES = 104;
export const ENTRY_OUT_BYTES = 128;
const ATTR_BYTES = 88;

/** What `struct fuse_attr` and `struct fuse_statx` are made from. One time serves for all of them. */
export interface WireAttributes {
  readonly ino: number;
  readonly size: number;
  readonly blocks: number;
  readonly seconds: number;
  readonly nanoseconds: number;
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly blksize: number;
}

export function encodeAttrOut(reply: Buffer, offset: number, attr: WireAttributes, validMs: number): number {
  reply.fill(0, offset, offset + ATTR_OUT_BYTES);
  encodeValidity(reply, offset, offset + 8, validMs);
  encodeAttr(reply, offset + 16, attr);
  return ATTR_OUT_BYTES;
}

/** Generation stays 0: a node id is never used for another node. */
export function encodeEntryOut(reply: Buffer, offset: number, attr: WireAttributes, validMs: number): number {
  reply.fill(0, offset, offset + ENTRY_OUT_BYTES - ATTR_BYTES);
  writeU64LE(reply, attr.ino, offset);
  encodeValidity(reply, offset + 16, offset + 32, validMs);
  encodeValidity(reply, offset + 24, offset + 36, validMs);
  encodeAttr(reply, offset + 40, attr);
  return ENTRY_OUT_BYTES;
}

/** nodeid 0 with a validity: the kernel remembers that there is no such name. */
export function encodeNegativeEntryOut(reply: Buffer, offset: number, validMs: number): number {
  reply.fill(0, offset, offset + ENTRY_OUT_BYTES);
  encodeValidity(reply, offset + 16, offset + 32, validMs);
  return ENTRY_OUT_BYTES;
}

/** How long the kernel may keep something: whole seconds in 64 bits, and nanoseconds in 32. */
export function encodeValidity(reply: Buffer, secondsOffset: number, nanosecondsOffset: number, validMs: number): void {
  writeU64LE(reply, Math.floor(validMs / 1000), secondsOffset);
  reply.writeUInt32LE((validMs % 1000) * 1e6, nanosecondsOffset);
}

function encodeAttr(reply: Buffer, offset: number, attr: WireAttributes): void {
  writeU64LE(reply, attr.ino, offset);
  writeU64LE(reply, attr.size, offset + 8);
  writeU64LE(reply, attr.blocks, offset + 16);
  for (const field of [24, 32, 40]) writeI64LE(reply, attr.seconds, offset + field);
  for (const field of [48, 52, 56]) reply.writeUInt32LE(attr.nanoseconds, offset + field);
  reply.writeUInt32LE(attr.mode, offset + 60);
  reply.writeUInt32LE(attr.nlink, offset + 64);
  reply.writeUInt32LE(attr.uid, offset + 68);
  reply.writeUInt32LE(attr.gid, offset + 72);
  reply.writeUInt32LE(0, offset + 76);
  reply.writeUInt32LE(attr.blksize, offset + 80);
  reply.writeUInt32LE(0, offset + 84);
}
