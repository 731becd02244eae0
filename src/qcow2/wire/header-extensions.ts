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
  readonly kind: 'incompatible' | 'compatible' | 'autoclear' | 'unknown';
  readonly bit: number;
  readonly name: string;
}

/** "Full disk encryption header pointer": where in the file the header of the encryption is. */
export interface CryptoHeaderPointer {
  readonly offset: number;
  readonly lengthBytes: number;
}

/**
 * Decodes the extension area. An extension that runs past the area ends the list: `isComplete` is false then.
 */
export function decodeHeaderExtensions(area: Buffer): { extensions: HeaderExtension[]; isComplete: boolean } {
  const extensions: HeaderExtension[] = [];
  let offset = 0;
  while (offset + 8 <= area.length) {
    const type = area.readUInt32BE(offset);
    const length = area.readUInt32BE(offset + 4);
    if (type === QCOW2_EXT_MAGIC_END) break;
    if (offset + 8 + length > area.length) return { extensions, isComplete: false };
    extensions.push({ type, data: area.subarray(offset + 8, offset + 8 + length) });
    offset += 8 + Math.ceil(length / 8) * 8;
  }
  return { extensions, isComplete: true };
}

/** Encodes the extension area, with the extension that ends it. */
export function encodeHeaderExtensions(extensions: readonly HeaderExtension[]): Buffer {
  const encoded = extensions.map(({ type, data }) => {
    const bytes = Buffer.alloc(8 + Math.ceil(data.length / 8) * 8);
    bytes.writeUInt32BE(type, 0);
    bytes.writeUInt32BE(data.length, 4);
    data.copy(bytes, 8);
    return bytes;
  });
  return Buffer.concat([...encoded, Buffer.alloc(8)]);
}

const FEATURE_KINDS = ['incompatible', 'compatible', 'autoclear'] as const;
const FEATURE_NAME_BYTES = 48;

/** Rows of 48 bytes: kind u8, bit u8, name padded with NUL. */
export function decodeFeatureNames(data: Buffer): FeatureName[] {
  const names: FeatureName[] = [];
  for (let offset = 0; offset + FEATURE_NAME_BYTES <= data.length; offset += FEATURE_NAME_BYTES) {
    const name = data.toString('latin1', offset + 2, offset + FEATURE_NAME_BYTES);
    names.push({
      kind: FEATURE_KINDS[data.readUInt8(offset)] ?? 'unknown',
      bit: data.readUInt8(offset + 1),
      name: name.split('\0', 1)[0] ?? '',
    });
  }
  return names;
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
