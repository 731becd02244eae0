/** Decrypts sectors, many in one call. */

import { CbcSectorCipher } from './cbc-sector-cipher.ts';
import type { CipherSpec } from './cipher-spec.ts';
import { XtsSectorCipher } from './xts-sector-cipher.ts';

/**
 * The obvious way, one `createDecipheriv` for each sector, spends most of its time on making ciphers. An implementation
 * has its ciphers once, gives them the whole range in one call, and does itself what differs from sector to sector.
 */
export interface SectorCipher {
  /**
   * Decrypts whole sectors that start at the sector number `firstSector`. `sectors` starts at a multiple of 4 in its
   * memory, and is overwritten; what is returned may be other memory.
   */
  decrypt(sectors: Buffer, firstSector: number): Buffer;
}

/** `key` has `spec.keyBytes` bytes; the cipher keeps what it made from it, not the key itself. */
export function createSectorCipher(spec: CipherSpec, key: Uint8Array): SectorCipher {
  return spec.mode === 'xts' ? new XtsSectorCipher(spec, key) : new CbcSectorCipher(spec, key);
}
