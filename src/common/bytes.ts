/** The guarded doors between 64-bit fields on disk or on the wire and JavaScript numbers. */

import { Qcow2fsError } from '../errors.ts';

const TWO_TO_32 = 0x1_0000_0000;

/**
 * The big-endian u64 at `offset` as a number.
 * @throws Qcow2fsError DAMAGED, naming `field`, when it is above 2^53 - 1 and so not exact.
 */
export function readU64BE(bytes: Buffer, offset: number, field: string): number {
  const value = bytes.readUInt32BE(offset) * TWO_TO_32 + bytes.readUInt32BE(offset + 4);
  if (value > Number.MAX_SAFE_INTEGER) {
    throw new Qcow2fsError('DAMAGED', `${field} is ${bytes.readBigUInt64BE(offset)}, which is far too large`, {
      data: { field },
    });
  }
  return value;
}

/** Writes a non-negative safe integer as a big-endian u64. */
export function writeU64BE(bytes: Buffer, value: number, offset: number): void {
  bytes.writeUInt32BE(Math.floor(value / TWO_TO_32), offset);
  bytes.writeUInt32BE(value % TWO_TO_32, offset + 4);
}

/** The little-endian u64 at `offset`; only for fields of the kernel, which never exceed 2^53 here. */
export function readU64LE(bytes: Buffer, offset: number): number {
  return bytes.readUInt32LE(offset + 4) * TWO_TO_32 + bytes.readUInt32LE(offset);
}

/** Writes a non-negative safe integer as a little-endian u64. */
export function writeU64LE(bytes: Buffer, value: number, offset: number): void {
  bytes.writeUInt32LE(value % TWO_TO_32, offset);
  bytes.writeUInt32LE(Math.floor(value / TWO_TO_32), offset + 4);
}

/** Writes a safe integer, also a negative one (a date before 1970), as a little-endian i64. */
export function writeI64LE(bytes: Buffer, value: number, offset: number): void {
  bytes.writeBigInt64LE(BigInt(value), offset);
}
