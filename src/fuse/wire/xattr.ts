/**
 * FUSE_GETXATTR and FUSE_LISTXATTR.
 * `struct fuse_getxattr_in`, 8 bytes: size u32 @0; behind it, in FUSE_GETXATTR, the name and a NUL.
 * Size 0 asks for the length: `struct fuse_getxattr_out`, 8 bytes: size u32 @0.
 */

import { IN_HEADER_BYTES } from './headers.ts';

export const GETXATTR_IN_BYTES = 8;

/** The room that the caller has for the value or the list; 0 asks for its length. */
export function getxattrInSize(request: Buffer): number {
  return request.readUInt32LE(IN_HEADER_BYTES);
}

export function encodeGetxattrOut(reply: Buffer, offset: number, size: number): number {
  reply.writeUInt32LE(size, offset);
  reply.writeUInt32LE(0, offset + 4);
  return 8;
}
