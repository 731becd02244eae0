/**
 * The file of a kept delta, little-endian. All parts start at multiples of 4 KiB, and all but the header are sparse. A page
 * stands for 64 MiB of the disk: 16,384 blocks of 4 KiB.
 *
 * | part   | size                            | what                                                             |
 * |--------|---------------------------------|------------------------------------------------------------------|
 * | header | 4 KiB                           | see below                                                        |
 * | kinds  | 1 byte for each page            | 0: all blocks are those of the disk below; 1: all are zeros;      |
 * |        |                                 | 2: they differ, and the map says how                             |
 * | map    | 4 KiB for each page             | words of 32 bits for 16 blocks each, the first in the lowest two  |
 * |        |                                 | bits. 0: of the disk below; 1: zeros; 3: in the data             |
 * | data   | 4 KiB for each block            | the bytes of the blocks that the map says are here                |
 *
 * Header:
 *
 * | offset | size | field                                                                                        |
 * |--------|------|----------------------------------------------------------------------------------------------|
 * |      0 |   16 | magic: `qcow2fs delta\n`, two zero bytes                                                     |
 * |     16 |    4 | version: 1                                                                                   |
 * |     20 |    4 | block size: 4096                                                                             |
 * |     24 |    8 | size of the disk in bytes                                                                    |
 * |     32 |    4 | length of the JSON text                                                                      |
 * |     36 |    4 | CRC-32 (zip) of the 4 KiB with this field zero                                               |
 * |     40 |      | JSON text: `image`, `state` (for messages), `identity` (what the delta belongs to); then zeros |
 */

import { readU64LE, writeU64LE } from '../../common/bytes.ts';
import { crc32 } from '../../common/crc32.ts';

export const DELTA_HEADER_BYTES = 4096;
export const DELTA_VERSION = 1;
export const DELTA_BLOCK_BYTES = 4096;
export const MAP_PAGE_BYTES = 4096;

const MAGIC = Buffer.from('qcow2fs delta\n\0\0', 'latin1');
const JSON_OFFSET = 40;
const MAX_JSON_BYTES = DELTA_HEADER_BYTES - JSON_OFFSET;

/** What the delta belongs to. */
export interface DeltaOrigin {
  readonly sizeBytes: number;
  /** For messages only: may be shortened, to its end. */
  readonly image: string;
  /** For messages only: may be shortened, to its end. */
  readonly state: string;
  /** Whatever tells one state of an image from all others. */
  readonly identity: string;
}

export type DecodedDeltaHeader =
  | { readonly kind: 'valid'; readonly origin: DeltaOrigin }
  | { readonly kind: 'foreign' | 'damaged' }
  | { readonly kind: 'unsupported'; readonly version: number; readonly blockBytes: number };

/** Names are shortened until they fit beside the identity. @throws RangeError for an identity that is too long itself. */
export function encodeDeltaHeader(origin: DeltaOrigin): Buffer {
  const text = encodeText(origin);
  const header = Buffer.alloc(DELTA_HEADER_BYTES);
  MAGIC.copy(header);
  header.writeUInt32LE(DELTA_VERSION, 16);
  header.writeUInt32LE(DELTA_BLOCK_BYTES, 20);
  writeU64LE(header, origin.sizeBytes, 24);
  header.writeUInt32LE(text.length, 32);
  text.copy(header, JSON_OFFSET);
  header.writeUInt32LE(checksum(header), 36);
  return header;
}

/** @param header any 4 KiB: it may be the beginning of any file */
export function decodeDeltaHeader(header: Buffer): DecodedDeltaHeader {
  if (!header.subarray(0, MAGIC.length).equals(MAGIC)) return { kind: 'foreign' };
  const [version, blockBytes] = [header.readUInt32LE(16), header.readUInt32LE(20)];
  if (version !== DELTA_VERSION || blockBytes !== DELTA_BLOCK_BYTES)
    return { kind: 'unsupported', version, blockBytes };
  const textLength = header.readUInt32LE(32);
  if (textLength > MAX_JSON_BYTES || header.readUInt32LE(36) !== checksum(header)) return { kind: 'damaged' };
  const text = decodeText(header.toString('utf8', JSON_OFFSET, JSON_OFFSET + textLength));
  return text === undefined
    ? { kind: 'damaged' }
    : { kind: 'valid', origin: { sizeBytes: readU64LE(header, 24), ...text } };
}

/** The words of a page, as they are in the file. */
export function encodeMapPage(words: Int32Array): Buffer {
  const page = Buffer.alloc(MAP_PAGE_BYTES);
  for (const [index, word] of words.entries()) page.writeInt32LE(word, index * 4);
  return page;
}

/** Fills `words` with those of the page at `offset`. False if a block has the state 2, which does not exist. */
export function decodeMapPage(bytes: Buffer, offset: number, words: Int32Array): boolean {
  let isValid = true;
  for (let index = 0; index < words.length; index++) {
    const word = bytes.readInt32LE(offset + index * 4);
    words[index] = word;
    if (((word >>> 1) & ~word & 0x5555_5555) !== 0) isValid = false;
  }
  return isValid;
}

function checksum(header: Buffer): number {
  const copy = Buffer.from(header);
  copy.writeUInt32LE(0, 36);
  return ~crc32(copy) >>> 0;
}

function encodeText({ image, state, identity }: DeltaOrigin): Buffer {
  for (let limit = Math.max(image.length, state.length); ; limit = Math.floor(limit / 2)) {
    const text = Buffer.from(JSON.stringify({ image: shorten(image, limit), state: shorten(state, limit), identity }));
    if (text.length <= MAX_JSON_BYTES) return text;
    if (limit === 0) throw new RangeError(`an identity of ${identity.length} characters does not fit in a header`);
  }
}

function shorten(text: string, limit: number): string {
  return text.length <= limit ? text : `…${text.slice(text.length - limit)}`;
}

function decodeText(text: string): Omit<DeltaOrigin, 'sizeBytes'> | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const { image, state, identity } = value as Record<string, unknown>;
  if (typeof image !== 'string' || typeof state !== 'string' || typeof identity !== 'string') return undefined;
  return { image, state, identity };
}
