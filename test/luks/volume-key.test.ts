import { expect, test } from 'vitest';
import { parseCipherSpec } from '../../src/luks/cipher-spec.ts';
import { createCipherOf, forgetKeys, keyBytesOf, toVolumeKey } from '../../src/luks/volume-key.ts';

const SPEC = parseCipherSpec('aes', 'cbc-plain64', 16);

test('a key takes the bytes it is made from with it', () => {
  const bytes = Buffer.from('0123456789abcdef');
  const key = toVolumeKey(SPEC, bytes);
  expect(bytes.equals(Buffer.alloc(16))).toBe(true);
  expect(keyBytesOf(key).toString()).toBe('0123456789abcdef');
});

test('forgetting a key overwrites it for everyone who has it', () => {
  const key = toVolumeKey(SPEC, Buffer.from('0123456789abcdef'));
  const other = structuredClone(key);
  createCipherOf(key);
  forgetKeys([undefined, key]);
  expect(keyBytesOf(other).equals(Buffer.alloc(16))).toBe(true);
});
