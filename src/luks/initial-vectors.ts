/** The initial vectors of sectors, for many sectors at once. */

import { type Cipher, createCipheriv, createHash } from 'node:crypto';
import type { CipherSpec } from './cipher-spec.ts';

export const IV_BYTES = 16;

export class InitialVectors {
  readonly #isShort: boolean;
  readonly #essiv: Cipher | undefined;
  #bytes = Buffer.alloc(0);

  constructor(spec: CipherSpec, key: Uint8Array) {
    this.#isShort = spec.iv === 'plain';
    this.#essiv = spec.ivHash === undefined ? undefined : createEssiv(spec.ivHash, key);
  }

  /** The vectors of `count` sectors from `firstSector` on, one behind the other; valid until the next call. */
  of(firstSector: number, count: number): Buffer {
    if (this.#bytes.length < count * IV_BYTES) this.#bytes = Buffer.alloc(count * IV_BYTES);
    for (let index = 0; index < count; index++) {
      const sector = firstSector + index;
      this.#bytes.writeUInt32LE(sector >>> 0, index * IV_BYTES);
      if (!this.#isShort) this.#bytes.writeUInt32LE(Math.floor(sector / 2 ** 32), index * IV_BYTES + 4);
    }
    const numbers = this.#bytes.subarray(0, count * IV_BYTES);
    return this.#essiv === undefined ? numbers : this.#essiv.update(numbers);
  }
}

/** AES with the digest of the whole key as its key; its size follows from the digest (crypto/block-luks.c). */
function createEssiv(hash: string, key: Uint8Array): Cipher {
  const salt = createHash(hash).update(key).digest();
  const essiv = createEcb(salt);
  salt.fill(0);
  return essiv;
}

/** AES on single blocks, of any number in one call. Without padding, `update` gives back each block at once. */
export function createEcb(key: Uint8Array): Cipher {
  return createCipheriv(`aes-${key.length * 8}-ecb`, key, null).setAutoPadding(false);
}
