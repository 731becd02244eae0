/** The fast ciphers against the obvious one: a `createDecipheriv` for each sector. */

import { createCipheriv, createDecipheriv, createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { type CipherSpec, parseCipherSpec } from '../../src/luks/cipher-spec.ts';
import { SECTOR_BYTES } from '../../src/luks/limits.ts';
import { createSectorCipher } from '../../src/luks/sector-cipher.ts';
import { Random } from '../oracle/random.ts';

const SECTOR_COUNT = 37;

const random = new Random(5);

function randomBytes(length: number): Buffer {
  return Buffer.from(Array.from({ length }, () => random.below(256)));
}

function initialVector(spec: CipherSpec, key: Buffer, sector: number): Buffer {
  const number = Buffer.alloc(16);
  number.writeBigUInt64LE(spec.iv === 'plain' ? BigInt(sector) % 2n ** 32n : BigInt(sector));
  if (spec.ivHash === undefined) return number;
  const salt = createHash(spec.ivHash).update(key).digest();
  const cipher = createCipheriv(`aes-${salt.length * 8}-ecb`, salt, null).setAutoPadding(false);
  return cipher.update(number);
}

function decryptOneByOne(spec: CipherSpec, key: Buffer, bytes: Buffer, firstSector: number): Buffer {
  const aesBits = spec.mode === 'xts' ? key.length * 4 : key.length * 8;
  const sectors: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += SECTOR_BYTES) {
    const iv = initialVector(spec, key, firstSector + at / SECTOR_BYTES);
    const cipher = createDecipheriv(`aes-${aesBits}-${spec.mode}`, key, iv).setAutoPadding(false);
    sectors.push(cipher.update(bytes.subarray(at, at + SECTOR_BYTES)));
  }
  return Buffer.concat(sectors);
}

describe.each([
  ['xts-plain64', 32],
  ['xts-plain64', 64],
  ['xts-plain', 64],
  ['xts-essiv:sha256', 32],
  ['cbc-plain64', 16],
  ['cbc-plain', 24],
  ['cbc-essiv:sha256', 16],
  ['cbc-essiv:sha256', 32],
  ['cbc-essiv:md5', 32],
])('aes-%s with a key of %i bytes', (mode, keyBytes) => {
  const spec = parseCipherSpec('aes', mode, keyBytes);
  const key = randomBytes(keyBytes);
  const bytes = randomBytes(SECTOR_COUNT * SECTOR_BYTES);

  test.each([0, 1, 2 ** 32 - 5, 2 ** 40 + 3])('decrypts sectors from %i on', (firstSector) => {
    const plain = createSectorCipher(spec, key).decrypt(Buffer.from(bytes), firstSector);
    expect(plain.equals(decryptOneByOne(spec, key, bytes, firstSector))).toBe(true);
  });

  test('decrypts range after range, in any order', () => {
    const cipher = createSectorCipher(spec, key);
    for (const [first, count] of [
      [30, 7],
      [0, 1],
      [12, 20],
      [1, 36],
      [36, 1],
    ] as const) {
      const range = Buffer.alloc(count * SECTOR_BYTES);
      bytes.copy(range, 0, first * SECTOR_BYTES);
      const expected = decryptOneByOne(spec, key, range, first);
      expect(cipher.decrypt(range, first).equals(expected)).toBe(true);
    }
  });

  test('does not need the key any more once it is made', () => {
    const copy = Buffer.from(key);
    const cipher = createSectorCipher(spec, copy);
    copy.fill(0);
    expect(cipher.decrypt(Buffer.from(bytes), 9).equals(decryptOneByOne(spec, key, bytes, 9))).toBe(true);
  });
});

test('AES-XTS as in IEEE 1619, vector 10 (two AES-256 keys, data unit 0xff)', () => {
  const key = Buffer.from(
    '27182818284590452353602874713526624977572470936999595749669676273141592653589793238462643383279502884197169399375105820974944592',
    'hex',
  );
  const plain = Buffer.from(Array.from({ length: SECTOR_BYTES }, (_, index) => index % 256));
  const cipher = createSectorCipher(parseCipherSpec('aes', 'xts-plain64', 64), key);
  const encrypted = createCipheriv('aes-256-xts', key, Buffer.from('ff'.padEnd(32, '0'), 'hex')).update(plain);
  // The first block of the vector's ciphertext.
  expect(encrypted.toString('hex', 0, 16)).toBe('1c3b3a102f770386e4836c99e370cf9b');
  expect(cipher.decrypt(Buffer.from(encrypted), 0xff).equals(plain)).toBe(true);
});
