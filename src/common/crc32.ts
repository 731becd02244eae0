/**
 * CRC-32 (ISO 3309, zip) and its Castagnoli variant, both reflected. The formats differ in what they begin with and in whether
 * they invert the result; these do not. zlib.crc32 is not in all of Node.js 20.
 */

const CRC32_TABLE = makeTable(0xedb88320);
const CRC32C_TABLE = makeTable(0x82f63b78);

/** CRC-32 of `bytes`, not inverted, as an unsigned number. */
export function crc32(bytes: Uint8Array, initial = 0xffff_ffff): number {
  return update(CRC32_TABLE, bytes, initial);
}

/** CRC-32C of `bytes`, not inverted, as an unsigned number. */
export function crc32c(bytes: Uint8Array, initial = 0xffff_ffff): number {
  return update(CRC32C_TABLE, bytes, initial);
}

function update(table: Uint32Array, bytes: Uint8Array, initial: number): number {
  let crc = initial;
  for (const byte of bytes) crc = (table[(crc ^ byte) & 0xff] ?? 0) ^ (crc >>> 8);
  return crc >>> 0;
}

function makeTable(polynomial: number): Uint32Array {
  return Uint32Array.from({ length: 256 }, (_, byte) => {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ polynomial : crc >>> 1;
    return crc;
  });
}
