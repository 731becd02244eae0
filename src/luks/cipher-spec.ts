/** Which cipher a header asks for: its three fields as one checked value. */

import { Qcow2fsError } from '../errors.ts';
import { requireHash } from './hashes.ts';

/** Plain data. The cipher is AES in all of them. */
export interface CipherSpec {
  readonly mode: 'cbc' | 'xts';
  /** Of the whole key: XTS has two of half the size. */
  readonly keyBytes: number;
  /**
   * What a sector's initial vector is made of:
   * - `plain`: its number modulo 2^32
   * - `plain64`: its number
   * - `essiv`: its number, encrypted with a hash of the key
   */
  readonly iv: 'plain' | 'plain64' | 'essiv';
  /** The hash of `essiv`. */
  readonly ivHash: string | undefined;
}

/** QEMU's `encrypt.format=aes` (crypto/block-qcow.c), the only one without a header. */
export const LEGACY_AES: CipherSpec = { mode: 'cbc', keyBytes: 16, iv: 'plain64', ivHash: undefined };

const AES_KEY_BYTES = [16, 24, 32];

/**
 * Parses what a header calls `aes` and `xts-plain64` or `cbc-essiv:sha256`. As in QEMU and dm-crypt, a hash that is named
 * for another IV than `essiv` is ignored.
 * @throws Qcow2fsError UNSUPPORTED, naming the cipher.
 */
export function parseCipherSpec(cipherName: string, cipherMode: string, keyBytes: number): CipherSpec {
  const [, mode, iv, ivHash] = /^([^-]*)-([^:]*)(?::(.*))?$/s.exec(cipherMode) ?? [];
  const fail = (reason: string): never => {
    const cipher = `${cipherName}-${cipherMode}`;
    throw new Qcow2fsError('UNSUPPORTED', `the cipher ${cipher} with a key of ${keyBytes * 8} bits: ${reason}`, {
      data: { cipher, keyBytes },
    });
  };
  if (cipherName !== 'aes') return fail(`the cipher "${cipherName}" is not supported, only aes is`);
  if (mode !== 'cbc' && mode !== 'xts') return fail(`the mode "${mode ?? cipherMode}" is not supported`);
  if (iv !== 'plain' && iv !== 'plain64' && iv !== 'essiv') return fail(`the IV "${iv}" is not supported`);
  if (!AES_KEY_BYTES.includes(mode === 'xts' ? keyBytes / 2 : keyBytes)) return fail('AES has no keys of this size');
  if (iv !== 'essiv') return { mode, keyBytes, iv, ivHash: undefined };
  if (ivHash === undefined) return fail('the hash of essiv is not named');
  // The digest is the key of an AES of its own, whose size need not be that of the other one.
  if (!AES_KEY_BYTES.includes(requireHash(ivHash).digestBytes)) return fail(`${ivHash} does not give a key for AES`);
  return { mode, keyBytes, iv, ivHash };
}
