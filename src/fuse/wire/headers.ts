/**
 * The header of every request and of every reply, little-endian on all machines this runs on.
 *
 * `struct fuse_in_header`, 40 bytes:
 * | offset | size | field                                             |
 * |--------|------|---------------------------------------------------|
 * |      0 |    4 | len, of the whole request                         |
 * |      4 |    4 | opcode                                            |
 * |      8 |    8 | unique                                            |
 * |     16 |    8 | nodeid                                            |
 * |     24 |   12 | uid, gid, pid                                     |
 * |     36 |    2 | total_extlen, in units of 8 bytes                 |
 *
 * `struct fuse_out_header`, 16 bytes:
 * | offset | size | field                                             |
 * |--------|------|---------------------------------------------------|
 * |      0 |    4 | len, of the whole reply                           |
 * |      4 |    4 | error: 0, or a negative errno and then no body    |
 * |      8 |    8 | unique, as in the request                         |
 */

import { readU64LE } from '../../common/bytes.ts';

export const IN_HEADER_BYTES = 40;
export const OUT_HEADER_BYTES = 16;

export function requestLength(request: Buffer): number {
  return request.readUInt32LE(0);
}

export function requestOpcode(request: Buffer): number {
  return request.readUInt32LE(4);
}

/** `unique` uses all 64 bits, so it is never made a number: it travels as two halves. */
export function requestUniqueLow(request: Buffer): number {
  return request.readUInt32LE(8);
}

export function requestUniqueHigh(request: Buffer): number {
  return request.readUInt32LE(12);
}

export function requestNodeId(request: Buffer): number {
  return readU64LE(request, 16);
}

/** Writes the header of a reply. `error` is 0 or a positive errno. Returns the length of the whole reply. */
export function encodeOutHeader(
  reply: Buffer,
  bodyBytes: number,
  error: number,
  uniqueLow: number,
  uniqueHigh: number,
): number {
  const length = OUT_HEADER_BYTES + bodyBytes;
  reply.writeUInt32LE(length, 0);
  reply.writeInt32LE(-error, 4);
  reply.writeUInt32LE(uniqueLow, 8);
  reply.writeUInt32LE(uniqueHigh, 12);
  return length;
}
