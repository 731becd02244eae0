import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { mergeStripes } from '../../src/luks/af-split.ts';
import { requireHash } from '../../src/luks/hashes.ts';

test('one stripe is the key itself', () => {
  const key = Buffer.from('0123456789abcdef');
  expect(mergeStripes(key, 16, requireHash('sha256')).equals(key)).toBe(true);
});

test('a key that is longer than a digest is hashed piece by piece, the last one cut', () => {
  const stripes = Buffer.concat([Buffer.alloc(24, 1), Buffer.alloc(24, 2)]);
  const sha1 = (number: number, length: number) =>
    createHash('sha1')
      .update(Buffer.from([0, 0, 0, number]))
      .update(Buffer.alloc(length, 1))
      .digest();
  const diffused = Buffer.concat([sha1(0, 20), sha1(1, 4).subarray(0, 4)]);
  const expected = Buffer.from(diffused.map((byte) => byte ^ 2));
  expect(mergeStripes(stripes, 24, requireHash('sha1')).equals(expected)).toBe(true);
});
