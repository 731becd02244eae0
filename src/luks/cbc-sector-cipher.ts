/**
 * AES-CBC over sectors. To decrypt a range as if it were one message is right for all blocks but the first of each
 * sector: there, the last block of the sector before it was taken for the initial vector.
 */

import { createDecipheriv, type Decipher } from 'node:crypto';
import type { CipherSpec } from './cipher-spec.ts';
import { InitialVectors, IV_BYTES } from './initial-vectors.ts';
import { SECTOR_BYTES } from './limits.ts';
import type { SectorCipher } from './sector-cipher.ts';

export class CbcSectorCipher implements SectorCipher {
  readonly #vectors: InitialVectors;
  readonly #cipher: Decipher;
  /** The last block that went through the cipher: what it takes for the vector of the next one. */
  readonly #last = Buffer.alloc(IV_BYTES);

  constructor(spec: CipherSpec, key: Uint8Array) {
    this.#vectors = new InitialVectors(spec, key);
    this.#cipher = createDecipheriv(`aes-${key.length * 8}-cbc`, key, this.#last).setAutoPadding(false);
  }

  decrypt(sectors: Buffer, firstSector: number): Buffer {
    const vectors = this.#vectors.of(firstSector, sectors.length / SECTOR_BYTES);
    const plain = this.#cipher.update(sectors);
    let vector = 0;
    for (let sector = 0; sector < sectors.length; sector += SECTOR_BYTES) {
      for (let index = 0; index < IV_BYTES; index++) {
        const taken = sector === 0 ? this.#last[index] : sectors[sector - IV_BYTES + index];
        plain[sector + index] = (plain[sector + index] ?? 0) ^ (taken ?? 0) ^ (vectors[vector++] ?? 0);
      }
    }
    sectors.copy(this.#last, 0, sectors.length - IV_BYTES);
    return plain;
  }
}
