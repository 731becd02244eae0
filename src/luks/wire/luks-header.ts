/**
 * The LUKS1 partition header ("LUKS On-Disk Format Specification" 1.2.3, section "PHDR layout"), big-endian. Bytes only:
 * no policy, no I/O.
 *
 * | offset | size | field                              |
 * |--------|------|------------------------------------|
 * |      0 |    6 | magic "LUKS\xba\xbe"               |
 * |      6 |    2 | version                            |
 * |      8 |   32 | cipher-name, padded with NUL       |
 * |     40 |   32 | cipher-mode                        |
 * |     72 |   32 | hash-spec                          |
 * |    104 |    4 | payload-offset, in sectors         |
 * |    108 |    4 | key-bytes                          |
 * |    112 |   20 | mk-digest                          |
 * |    132 |   32 | mk-digest-salt                     |
 * |    164 |    4 | mk-digest-iter                     |
 * |    168 |   40 | uuid                               |
 * |    208 | 8*48 | key slots                          |
 *
 * A key slot:
 * |      0 |    4 | active: one of two magic numbers   |
 * |      4 |    4 | iterations                         |
 * |      8 |   32 | salt                               |
 * |     40 |    4 | key-material-offset, in sectors    |
 * |     44 |    4 | stripes                            |
 */

export const LUKS_MAGIC = 'LUKS\xba\xbe';
export const LUKS_VERSION_1 = 1;
export const LUKS_PHDR_BYTES = 592;
export const LUKS_NUMKEYS = 8;
export const LUKS_DIGESTSIZE = 20;
export const LUKS_SALTSIZE = 32;
export const LUKS_KEY_ENABLED = 0x00ac71f3;

const KEY_SLOTS_OFFSET = 208;
const KEY_SLOT_BYTES = 48;
const NAME_BYTES = 32;
const UUID_BYTES = 40;

/** Plain data: bytes are Uint8Array and not Buffer, as that is what arrives in another thread. */
export interface LuksKeySlot {
  readonly isActive: boolean;
  readonly iterations: number;
  readonly salt: Uint8Array;
  /** In sectors, from the start of the header. */
  readonly keyMaterialOffset: number;
  readonly stripes: number;
}

export interface LuksHeader {
  /** One character per byte. */
  readonly magic: string;
  readonly version: number;
  readonly cipherName: string;
  readonly cipherMode: string;
  readonly hashSpec: string;
  /** In sectors; means nothing inside a qcow2 file, where the tables say where the payload is. */
  readonly payloadOffset: number;
  readonly keyBytes: number;
  readonly masterKeyDigest: Uint8Array;
  readonly masterKeySalt: Uint8Array;
  readonly masterKeyIterations: number;
  readonly uuid: string;
  readonly keySlots: readonly LuksKeySlot[];
}

/** Decodes a header from its `LUKS_PHDR_BYTES` bytes, whatever is in them. */
export function decodeLuksHeader(bytes: Buffer): LuksHeader {
  return {
    magic: bytes.toString('latin1', 0, 6),
    version: bytes.readUInt16BE(6),
    cipherName: decodeText(bytes, 8, NAME_BYTES),
    cipherMode: decodeText(bytes, 40, NAME_BYTES),
    hashSpec: decodeText(bytes, 72, NAME_BYTES),
    payloadOffset: bytes.readUInt32BE(104),
    keyBytes: bytes.readUInt32BE(108),
    masterKeyDigest: Uint8Array.from(bytes.subarray(112, 112 + LUKS_DIGESTSIZE)),
    masterKeySalt: Uint8Array.from(bytes.subarray(132, 132 + LUKS_SALTSIZE)),
    masterKeyIterations: bytes.readUInt32BE(164),
    uuid: decodeText(bytes, 168, UUID_BYTES),
    keySlots: Array.from({ length: LUKS_NUMKEYS }, (_, index) =>
      decodeKeySlot(bytes, KEY_SLOTS_OFFSET + index * KEY_SLOT_BYTES),
    ),
  };
}

function decodeKeySlot(bytes: Buffer, offset: number): LuksKeySlot {
  return {
    isActive: bytes.readUInt32BE(offset) === LUKS_KEY_ENABLED,
    iterations: bytes.readUInt32BE(offset + 4),
    salt: Uint8Array.from(bytes.subarray(offset + 8, offset + 8 + LUKS_SALTSIZE)),
    keyMaterialOffset: bytes.readUInt32BE(offset + 40),
    stripes: bytes.readUInt32BE(offset + 44),
  };
}

/** Text up to the first NUL, one character per byte. */
function decodeText(bytes: Buffer, offset: number, length: number): string {
  return bytes.toString('latin1', offset, offset + length).split('\0', 1)[0] ?? '';
}
