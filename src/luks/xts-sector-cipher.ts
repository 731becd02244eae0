/**
 * AES-XTS over sectors (IEEE 1619): a block is decrypted as D(C ^ T) ^ T. The tweak T of the first block of a sector is
 * its initial vector, encrypted with the second key; that of each further block is the one before times alpha in
 * GF(2^128). So one AES call makes the tweaks of all sectors and another one decrypts all blocks.
 *
 * This also serves AES-192, which OpenSSL does not have in XTS.
 */

import { type Cipher, createDecipheriv, type Decipher } from 'node:crypto';
import type { CipherSpec } from './cipher-spec.ts';
import { createEcb, InitialVectors, IV_BYTES } from './initial-vectors.ts';
import { SECTOR_BYTES } from './limits.ts';
import type { SectorCipher } from './sector-cipher.ts';

const SECTOR_WORDS = SECTOR_BYTES / 4;
/** x^7 + x^2 + x + 1, the part of the modulus below x^128. */
const MODULUS = 0x87;

export class XtsSectorCipher implements SectorCipher {
  readonly #vectors: InitialVectors;
  readonly #tweakCipher: Cipher;
  readonly #cipher: Decipher;
  #tweaks = new Int32Array(0);

  constructor(spec: CipherSpec, key: Uint8Array) {
    const half = key.length / 2;
    this.#vectors = new InitialVectors(spec, key);
    this.#tweakCipher = createEcb(key.subarray(half));
    this.#cipher = createDecipheriv(`aes-${half * 8}-ecb`, key.subarray(0, half), null).setAutoPadding(false);
  }

  decrypt(sectors: Buffer, firstSector: number): Buffer {
    const sectorCount = sectors.length / SECTOR_BYTES;
    const first = this.#tweakCipher.update(this.#vectors.of(firstSector, sectorCount));
    const words = sectors.length / 4;
    if (this.#tweaks.length < words) this.#tweaks = new Int32Array(words);
    const tweaks = this.#tweaks;
    const input = toWords(sectors);
    for (let sector = 0; sector < sectorCount; sector++) {
      addTweaks(first, sector * IV_BYTES, input, tweaks, sector * SECTOR_WORDS);
    }
    const plain = this.#cipher.update(sectors);
    const output = toWords(plain);
    for (let index = 0; index < words; index++) output[index] = (output[index] as number) ^ (tweaks[index] as number);
    return plain;
  }
}

/**
 * Makes the tweaks of all blocks of a sector, notes them in `tweaks` and adds them to `words`, both from `start` on. Words
 * are little-endian, as every machine that this runs on.
 */
function addTweaks(first: Buffer, offset: number, words: Int32Array, tweaks: Int32Array, start: number): void {
  let w0 = first.readInt32LE(offset);
  let w1 = first.readInt32LE(offset + 4);
  let w2 = first.readInt32LE(offset + 8);
  let w3 = first.readInt32LE(offset + 12);
  for (let at = start; at < start + SECTOR_WORDS; at += 4) {
    tweaks[at] = w0;
    tweaks[at + 1] = w1;
    tweaks[at + 2] = w2;
    tweaks[at + 3] = w3;
    words[at] = (words[at] as number) ^ w0;
    words[at + 1] = (words[at + 1] as number) ^ w1;
    words[at + 2] = (words[at + 2] as number) ^ w2;
    words[at + 3] = (words[at + 3] as number) ^ w3;
    const carry = w3 >> 31;
    w3 = (w3 << 1) | (w2 >>> 31);
    w2 = (w2 << 1) | (w1 >>> 31);
    w1 = (w1 << 1) | (w0 >>> 31);
    w0 = (w0 << 1) ^ (carry & MODULUS);
  }
}

function toWords(bytes: Buffer): Int32Array {
  return new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
}
