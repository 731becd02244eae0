/** What `info --json` and `image.json` say about encryption: nothing of it is secret. */

import { LEGACY_AES } from '../luks/cipher-spec.ts';
import type { Encryption } from '../qcow2/encryption.ts';

export interface EncryptionDescription {
  /** `damaged`: the image says that it is encrypted, but not how; see `problems`. */
  readonly format: 'luks' | 'aes' | 'unknown' | 'damaged';
  /** Name, mode and initial vector, such as `aes-xts-plain64`. */
  readonly cipher: string | null;
  readonly cipherName: string | null;
  readonly cipherMode: string | null;
  readonly ivGenerator: string | null;
  readonly keyBits: number | null;
  /** Of PBKDF2, the stripes and the digest of the key; not that of the initial vectors. */
  readonly hash: string | null;
  readonly uuid: string | null;
  readonly keySlots: KeySlotsDescription | null;
}

export interface KeySlotsDescription {
  readonly count: number;
  /** The numbers of the slots with a passphrase, from 0. */
  readonly used: readonly number[];
}

/** What a header that cannot be read leaves open. */
const NOTHING_TOLD = {
  cipher: null,
  cipherName: null,
  cipherMode: null,
  ivGenerator: null,
  keyBits: null,
  hash: null,
  uuid: null,
  keySlots: null,
};

export function describeEncryption(encryption: Encryption | undefined): EncryptionDescription | null {
  if (encryption === undefined) return null;
  switch (encryption.format) {
    case 'aes':
      return {
        ...NOTHING_TOLD,
        format: 'aes',
        ...describeCipher('aes', `${LEGACY_AES.mode}-${LEGACY_AES.iv}`, LEGACY_AES.keyBytes),
      };
    case 'luks': {
      const { cipherName, cipherMode, hashSpec, keyBytes, keySlots, uuid } = encryption.volume.header;
      return {
        format: 'luks',
        ...describeCipher(cipherName, cipherMode, keyBytes),
        hash: hashSpec,
        uuid,
        keySlots: {
          count: keySlots.length,
          used: keySlots.flatMap(({ isActive }, index) => (isActive ? [index] : [])),
        },
      };
    }
    default:
      return { ...NOTHING_TOLD, format: encryption.format };
  }
}

/** `cipherMode` is as in LUKS: `xts-plain64`. */
function describeCipher(cipherName: string, cipherMode: string, keyBytes: number) {
  const [mode = '', ...iv] = cipherMode.split('-');
  return {
    cipher: `${cipherName}-${cipherMode}`,
    cipherName,
    cipherMode: mode,
    ivGenerator: iv.join('-'),
    keyBits: keyBytes * 8,
  };
}
