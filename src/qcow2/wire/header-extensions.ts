/**
 * Header extensions (docs/interop/qcow2.txt, "Header extensions"): a list of {u32 type, u32 length, data padded to 8
 * bytes}, ended by type 0 or by the end of the area between the header and the first cluster or the backing file name.
 */

import { readU64BE } from '../../common/bytes.ts';

export const QCOW2_EXT_MAGIC_END = 0;
export const QCOW2_EXT_MAGIC_BACKING_FORMAT = 0xe2792aca;
export const QCOW2_EXT_MAGIC_FEATURE_TABLE = 0x6803f857;
export const QCOW2_EXT_MAGIC_CRYPTO_HEADER = 0x0537be77;
export const QCOW2_EXT_MAGIC_DATA_FILE = 0x44415441;
export const QCOW2_EXT_MAGIC_BITMAPS = 0x23852875;

export interface HeaderExtension {
  readonly type: number;
  readonly data: Buffer;
}

/** A row of the feature name table: which bit of which kind of feature field has which name. */
export interface FeatureName {
  readonly kind: (typeof FEATURE_KINDS)[number];
  readonly bit: number;
  readonly name: string;
}

/** "Full disk encryption header pointer": where in the file the header of the encryption is. */
export interface CryptoHeaderPointer {
  readonly offset: number;
  readonly lengthBytes: number;
}

/** Type and length, u32 each. */
export const EXTENSION_HEAD_BYTES = 8;

/** Bytes from the begin of an extension to that of the next one. */
export function extensionBytes(dataBytes: number): number {
  return EXTENSION_HEAD_BYTES + Math.ceil(dataBytes / 8) * 8;
}

/** Encodes the extension area, with the extension that ends it. */
export function encodeHeaderExtensions(extensions: readonly HeaderExtension[]): Buffer {
  const encoded = extensions.map(({ type, data }) => {
    const bytes = Buffer.alloc(extensionBytes(data.length));
    bytes.writeUInt32BE(type, 0);
    bytes.writeUInt32BE(data.length, 4);
    data.copy(bytes, 8);
    return bytes;
  });
  return Buffer.concat([...encoded, Buffer.alloc(EXTENSION_HEAD_BYTES)]);
}

const FEATURE_KINDS = ['incompatible', 'compatible', 'autoclear'] as const;
/** Of each kind: the fields of the header are u64. */
const FEATURE_BIT_COUNT = 64;
const FEATURE_NAME_BYTES = 48;
/** A table that names each bit once is no longer. */
export const MAX_FEATURE_TABLE_BYTES = FEATURE_KINDS.length * FEATURE_BIT_COUNT * FEATURE_NAME_BYTES;

/**
 * Rows of 48 bytes: kind u8, bit u8, name padded with NUL. Of several for one bit, the first one counts, and a row without
 * a name ends the table (QEMU's report_unsupported_feature); what is in no field of the header is left out.
 */
export function decodeFeatureNames(data: Buffer): FeatureName[] {
  const names = new Map<number, FeatureName>();
  const end = Math.min(data.length, MAX_FEATURE_TABLE_BYTES);
  for (let offset = 0; offset + FEATURE_NAME_BYTES <= end; offset += FEATURE_NAME_BYTES) {
    const kind = FEATURE_KINDS[data.readUInt8(offset)];
    const bit = data.readUInt8(offset + 1);
    const [name = ''] = data.toString('latin1', offset + 2, offset + FEATURE_NAME_BYTES).split('\0', 1);
    if (name === '') break;
    const key = data.readUInt16BE(offset);
    if (kind !== undefined && bit < FEATURE_BIT_COUNT && !names.has(key)) names.set(key, { kind, bit, name });
  }
  return [...names.values()];
}

/**
 * Two u64, the offset and the length; undefined if the data has another size.
 * @throws Qcow2fsError DAMAGED for a field above 2^53 - 1.
 */
export function decodeCryptoHeaderPointer(data: Buffer): CryptoHeaderPointer | undefined {
  if (data.length !== 16) return undefined;
  return {
    offset: readU64BE(data, 0, 'the offset of the encryption header'),
    lengthBytes: readU64BE(data, 8, 'the length of the encryption header'),
  };
}
