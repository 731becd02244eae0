import { expect, test } from 'vitest';
import {
  compressedBytes,
  compressedOffset,
  encodeCopiedEntry,
  encodeZeroEntry,
  entryOffset,
  isCompressedEntry,
  isZeroEntry,
} from '../../../src/qcow2/wire/table-entries.ts';

/** The two halves of an entry. */
function halves(entry: bigint): [high: number, low: number] {
  return [Number(entry >> 32n), Number(entry & 0xffff_ffffn)];
}

test('the offset is bits 9 to 55; flags and reserved bits do not touch it', () => {
  expect(entryOffset(...halves(0x0000_0000_0005_0000n))).toBe(0x50000);
  expect(entryOffset(...halves(0x8000_0000_0005_0001n))).toBe(0x50000);
  expect(entryOffset(...halves(0xff00_0000_0000_01ffn))).toBe(0);
  expect(entryOffset(...halves(0x00ff_ffff_ffff_fe00n))).toBe(0x00ff_ffff_ffff_fe00);
});

test('bit 62 says compressed, bit 0 says zero', () => {
  expect(isCompressedEntry(halves(1n << 62n)[0])).toBe(true);
  expect(isCompressedEntry(halves(~(1n << 62n) & 0xffff_ffff_ffff_ffffn)[0])).toBe(false);
  expect(isZeroEntry(halves(1n)[1])).toBe(true);
  expect(isZeroEntry(halves(0xffff_ffff_ffff_fffen)[1])).toBe(false);
});

// With x = 62 - (cluster_bits - 8): bits 0 .. x-1 are the offset, bits x .. 61 the number of further sectors.
test.each([9, 12, 16, 21])('a compressed entry splits at the bit that %i cluster bits say', (clusterBits) => {
  const x = BigInt(62 - (clusterBits - 8));
  const offset = 0x1_2345_6789n;
  const sectors = (1n << BigInt(clusterBits - 8)) - 1n;
  const [high, low] = halves((1n << 62n) | (sectors << x) | offset);
  expect(compressedOffset(high, low, clusterBits)).toBe(Number(offset));
  expect(compressedBytes(high, low, clusterBits)).toBe((Number(sectors) + 1) * 512 - (Number(offset) % 512));
});

test('the highest offset bit of a compressed entry counts, and the first sector count bit does not', () => {
  const x = 62n - 8n; // cluster_bits 16
  const [high, low] = halves((1n << 62n) | (1n << (x - 1n)) | (1n << x));
  expect(compressedOffset(high, low, 16)).toBe(2 ** 53);
  expect(compressedBytes(high, low, 16)).toBe(1024);
});

test('entries are encoded with the flags that they need, and nothing beside them is touched', () => {
  const table = Buffer.alloc(32, 0xee);
  encodeCopiedEntry(table, 1, 0x0012_3456_789a_0000);
  encodeZeroEntry(table, 2);
  expect(table.toString('hex')).toBe(['e'.repeat(16), '80123456789a0000', '0000000000000001', 'e'.repeat(16)].join(''));
});
