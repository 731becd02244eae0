/** Fields of superblocks as text and numbers, in the way of libblkid (libblkid/src/superblocks/superblocks.c). */

/** White space of the C locale, which blkid_rtrim_whitespace() removes. */
const TRAILING_SPACE = /[ \t\n\v\f\r]+$/;

/**
 * A label of 8-bit characters, up to its first NUL; undefined if nothing is left of it. Most formats give labels no
 * encoding: one that is not UTF-8 is taken for latin1, so that none of its bytes is lost.
 */
export function decodeLabel(bytes: Buffer): string | undefined {
  const end = bytes.indexOf(0);
  const label = end < 0 ? bytes : bytes.subarray(0, end);
  const text = label.toString('utf8');
  return trim(Buffer.from(text, 'utf8').equals(label) ? text : label.toString('latin1'));
}

/** A label of UTF-16 code units, up to its first NUL. */
export function decodeUtf16Label(bytes: Buffer, order: 'little' | 'big'): string | undefined {
  const units = Buffer.from(bytes.subarray(0, bytes.length - (bytes.length % 2)));
  if (order === 'big') units.swap16();
  const [text = ''] = units.toString('utf16le').split('\0', 1);
  return trim(text);
}

/** 16 bytes as a DCE UUID; undefined if all are zero, which stands for none. */
export function decodeUuid(bytes: Buffer): string | undefined {
  if (bytes.every((byte) => byte === 0)) return undefined;
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

/** Four bytes, little-endian, as DOS shows a serial number: `1A2B-3C4D`. */
export function decodeSerialNumber(bytes: Buffer): string {
  const digits = bytes.readUInt32LE(0).toString(16).toUpperCase().padStart(8, '0');
  return `${digits.slice(0, 4)}-${digits.slice(4)}`;
}

/** A count of units as bytes; undefined if it is no exact number. */
export function toSizeBytes(count: bigint | number, unitBytes: number): number | undefined {
  const size = Number(count) * unitBytes;
  return Number.isSafeInteger(size) ? size : undefined;
}

export function isPowerOfTwo(value: number): boolean {
  return value > 0 && (value & (value - 1)) === 0;
}

function trim(text: string): string | undefined {
  return text.replace(TRAILING_SPACE, '') || undefined;
}
