/**
 * Messages to the kernel that answer no request: what it has cached is not so any more.
 *
 * They have the header of a reply, with `unique` 0 and the kind of the message in the place of the error (fuse_notify in
 * fs/fuse/dev.c).
 *
 * `struct fuse_notify_inval_inode_out`, 24 bytes:
 * | offset | size | field                                                                  |
 * |--------|------|------------------------------------------------------------------------|
 * |     16 |    8 | ino                                                                    |
 * |     24 |    8 | off: where the pages begin; negative for the attributes alone          |
 * |     32 |    8 | len: 0 or less for all pages to the end                                |
 *
 * `struct fuse_notify_inval_entry_out`, 16 bytes, and the name with a NUL behind it:
 * | offset | size | field                                                                  |
 * |--------|------|------------------------------------------------------------------------|
 * |     16 |    8 | parent                                                                 |
 * |     24 |    4 | namelen, without the NUL                                               |
 * |     28 |    4 | flags                                                                  |
 */

import { writeU64LE } from '../../common/bytes.ts';
import { OUT_HEADER_BYTES } from './headers.ts';

const FUSE_NOTIFY_INVAL_INODE = 2;
const FUSE_NOTIFY_INVAL_ENTRY = 3;

const INVAL_INODE_BYTES = OUT_HEADER_BYTES + 24;
const INVAL_ENTRY_BYTES = OUT_HEADER_BYTES + 16;

/** Drops the attributes of a node and all its pages: the data of a file, the list of a directory. */
export function encodeInvalidateInode(nodeId: number): Buffer {
  const message = Buffer.alloc(INVAL_INODE_BYTES);
  encodeHeader(message, FUSE_NOTIFY_INVAL_INODE);
  writeU64LE(message, nodeId, OUT_HEADER_BYTES);
  return message;
}

/** Drops what is known of a name in a directory, also that it does not exist. `name` is latin1. */
export function encodeInvalidateEntry(parent: number, name: string): Buffer {
  const message = Buffer.alloc(INVAL_ENTRY_BYTES + name.length + 1);
  encodeHeader(message, FUSE_NOTIFY_INVAL_ENTRY);
  writeU64LE(message, parent, OUT_HEADER_BYTES);
  message.writeUInt32LE(name.length, OUT_HEADER_BYTES + 8);
  message.write(name, INVAL_ENTRY_BYTES, 'latin1');
  return message;
}

function encodeHeader(message: Buffer, kind: number): void {
  message.writeUInt32LE(message.length, 0);
  message.writeInt32LE(kind, 4);
}
