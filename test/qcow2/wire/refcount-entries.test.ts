/** Refcounts of every width, by the bytes of docs/interop/qcow2.txt. */

import { describe, expect, test } from 'vitest';
import { encodeOnes, maxRefcount, REFCOUNT_CEILING, refcountAt } from '../../../src/qcow2/wire/refcount-entries.ts';

const all = (hex: string, count: number, order: number) =>
  Array.from({ length: count }, (_, index) => refcountAt(Buffer.from(hex, 'hex'), index, order));

describe('refcountAt', () => {
  test.each([
    [0, '0b', [1, 1, 0, 1, 0, 0, 0, 0]],
    [0, '0080', [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]],
    [1, 'e4', [0, 1, 2, 3]],
    [2, '21f0', [1, 2, 0, 15]],
    [3, '00ff07', [0, 255, 7]],
    [4, '0001ffff', [1, 65535]],
    [5, '00010000fffffffe', [65536, 0xffff_fffe]],
    [6, '00000000000000070000000100000000', [7, REFCOUNT_CEILING]],
  ])('decodes entries of order %i', (order, hex, refcounts) => {
    expect(all(hex, refcounts.length, order)).toEqual(refcounts);
  });
});

test('the largest refcount follows from the width', () => {
  expect([0, 1, 2, 3, 4].map(maxRefcount)).toEqual([1, 3, 15, 255, 65535]);
  expect([5, 6].map(maxRefcount)).toEqual([REFCOUNT_CEILING, REFCOUNT_CEILING]);
});

test('encodeOnes makes entries of 16 bits, and zeros behind them', () => {
  const block = Buffer.alloc(8, 0xee);
  encodeOnes(block, 3);
  expect(block.toString('hex')).toBe('0001000100010000');
});
