/**
 * `struct fuse_statfs_out`, 80 bytes, what is not listed is zero:
 * | offset | size | field                |
 * |--------|------|----------------------|
 * |      0 |    8 | blocks, of `frsize`  |
 * |      8 |    8 | bfree                |
 * |     16 |    8 | bavail               |
 * |     24 |    8 | files                |
 * |     32 |    8 | ffree                |
 * |     40 |    4 | bsize                |
 * |     44 |    4 | namelen              |
 * |     48 |    4 | frsize               |
 */

import { writeU64LE } from '../../common/bytes.ts';

export const STATFS_OUT_BYTES = 80;

export interface StatfsOut {
  readonly blocks: number;
  readonly files: number;
  readonly blockBytes: number;
  readonly nameLength: number;
}

/** Free blocks and free files stay 0. */
export function encodeStatfsOut(reply: Buffer, offset: number, out: StatfsOut): number {
  reply.fill(0, offset, offset + STATFS_OUT_BYTES);
  writeU64LE(reply, out.blocks, offset);
  writeU64LE(reply, out.files, offset + 24);
  reply.writeUInt32LE(out.blockBytes, offset + 40);
  reply.writeUInt32LE(out.nameLength, offset + 44);
  reply.writeUInt32LE(out.blockBytes, offset + 48);
  return STATFS_OUT_BYTES;
}
