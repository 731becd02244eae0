/**
 * The length of a zstd frame, from its own block headers (RFC 8878, section 3.1.1). A compressed cluster is stored in
 * whole sectors, so frames are followed by bytes that are not theirs, and decoders for whole buffers refuse those.
 *
 * Frame: magic u32 LE 0xfd2fb528, frame header, blocks, optional checksum of 4 bytes.
 * Frame header descriptor: bits 0-1 dictionary id size, 2 checksum, 5 single segment, 6-7 content size.
 * A skippable frame (section 3.1.2) gives nothing: magic u32 LE 0x184d2a50 to 0x184d2a5f, length u32 LE, as many bytes.
 * Block header, 3 bytes LE: bit 0 last block, bits 1-2 type (0 raw, 1 RLE, 2 compressed, 3 reserved), bits 3-23 size.
 */

const ZSTD_MAGIC = 0xfd2fb528;
const SKIPPABLE_MAGIC = 0x184d2a50;
const SKIPPABLE_HEADER_BYTES = 8;
const DICTIONARY_ID_BYTES = [0, 1, 2, 4] as const;
const BLOCK_TYPE_RLE = 1;
const BLOCK_TYPE_RESERVED = 3;

/** Length in bytes of the skippable frame that starts at `offset`; undefined if there is none, or not all of it. */
export function skippableFrameBytes(bytes: Buffer, offset: number): number | undefined {
  if (offset + SKIPPABLE_HEADER_BYTES > bytes.length) return undefined;
  if ((bytes.readUInt32LE(offset) & ~0xf) !== SKIPPABLE_MAGIC) return undefined;
  const frameBytes = SKIPPABLE_HEADER_BYTES + bytes.readUInt32LE(offset + 4);
  return offset + frameBytes <= bytes.length ? frameBytes : undefined;
}

/** Length in bytes of the frame that starts at `offset`, or undefined if there is no whole frame. */
export function zstdFrameBytes(bytes: Buffer, offset: number): number | undefined {
  if (offset + 6 > bytes.length || bytes.readUInt32LE(offset) !== ZSTD_MAGIC) return undefined;
  const descriptor = bytes.readUInt8(offset + 4);
  let at = offset + 5 + frameHeaderTailBytes(descriptor);
  for (;;) {
    if (at + 3 > bytes.length) return undefined;
    const block = bytes.readUIntLE(at, 3);
    const type = (block >>> 1) & 3;
    if (type === BLOCK_TYPE_RESERVED) return undefined;
    at += 3 + (type === BLOCK_TYPE_RLE ? 1 : block >>> 3);
    if ((block & 1) !== 0) break;
  }
  if ((descriptor & 4) !== 0) at += 4;
  return at <= bytes.length ? at - offset : undefined;
}

function frameHeaderTailBytes(descriptor: number): number {
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const contentSizeFlag = descriptor >>> 6;
  const contentSizeBytes = contentSizeFlag === 0 ? (isSingleSegment ? 1 : 0) : 1 << contentSizeFlag;
  const windowBytes = isSingleSegment ? 0 : 1;
  return windowBytes + (DICTIONARY_ID_BYTES[descriptor & 3] ?? 0) + contentSizeBytes;
}
