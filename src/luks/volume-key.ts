/** The key that a volume is encrypted with, in memory that all threads share and that can be overwritten. */

import type { CipherSpec } from './cipher-spec.ts';
import { createSectorCipher, type SectorCipher } from './sector-cipher.ts';

/** Plain data: can be sent to worker threads, which then see one and the same memory. */
export interface VolumeKey {
  readonly spec: CipherSpec;
  readonly memory: SharedArrayBuffer;
}

/** Moves `bytes` into a key: they are zeros afterwards, also if there is no memory for it. */
export function toVolumeKey(spec: CipherSpec, bytes: Buffer): VolumeKey {
  try {
    const memory = new SharedArrayBuffer(spec.keyBytes);
    bytes.copy(Buffer.from(memory));
    return { spec, memory };
  } finally {
    bytes.fill(0);
  }
}

/** The bytes of the key, not a copy. */
export function keyBytesOf({ memory }: VolumeKey): Buffer {
  return Buffer.from(memory);
}

export function createCipherOf(key: VolumeKey): SectorCipher {
  // A copy, as OpenSSL is not given memory that other threads may change.
  const bytes = Buffer.alloc(key.spec.keyBytes);
  keyBytesOf(key).copy(bytes);
  try {
    return createSectorCipher(key.spec, bytes);
  } finally {
    bytes.fill(0);
  }
}

/** Overwrites keys with zeros, for every thread that has them. Ciphers that were made from them go on working. */
export function forgetKeys(keys: readonly (VolumeKey | undefined)[]): void {
  for (const key of keys) if (key !== undefined) keyBytesOf(key).fill(0);
}
