/** How an image is encrypted, and from a passphrase to the key of its clusters. */

import { messageOf, Qcow2fsError } from '../errors.ts';
import { type CipherSpec, LEGACY_AES } from '../luks/cipher-spec.ts';
import { type LuksVolume, readLuksVolume } from '../luks/luks-volume.ts';
import { luksAlgorithms, luksAlgorithmsOf, unlockLuksVolume } from '../luks/unlock.ts';
import type { UnlockSession } from '../luks/unlock-session.ts';
import { toVolumeKey, type VolumeKey } from '../luks/volume-key.ts';
import type { Storage } from '../storage/storage.ts';
import type { HeaderExtension } from './header-extensions.ts';
import type { HeaderProblem } from './header-problem.ts';
import { CRYPT_METHOD_OFFSET, QCOW_CRYPT_AES, QCOW_CRYPT_LUKS, QCOW_CRYPT_NONE } from './wire/header.ts';
import { type CryptoHeaderPointer, decodeCryptoHeaderPointer } from './wire/header-extensions.ts';

/**
 * What the header says about encryption; plain data.
 * - `aes`: the legacy AES-CBC of QEMU. The passphrase is the key, and nothing can tell whether it is the right one.
 * - `luks`: the LUKS1 header and its key slots lie in clusters of the file; the payload is in clusters as always.
 * - `unknown`: a crypt_method of the future.
 * - `damaged`: the clusters are or may be encrypted, but nothing can decrypt them. The snapshots can still be listed.
 */
export type Encryption =
  | { readonly format: 'aes' }
  | { readonly format: 'luks'; readonly volume: LuksVolume }
  | { readonly format: 'unknown'; readonly cryptMethod: number }
  | { readonly format: 'damaged'; readonly problem: EncryptionProblem };

/** An error as plain data. */
export interface EncryptionProblem extends HeaderProblem {
  readonly code: Qcow2fsError['code'];
}

/**
 * Reads what `crypt_method` and the header extension (undefined if there is none) say; undefined for no encryption.
 * @throws Qcow2fsError IO only.
 */
export function readEncryption(
  storage: Storage,
  cryptMethod: number,
  extension: HeaderExtension | undefined,
  clusterBytes: number,
): Encryption | undefined {
  try {
    if (cryptMethod !== QCOW_CRYPT_LUKS && extension !== undefined) {
      // As QEMU. To go by crypt_method alone would show ciphertext if a bit of that field is wrong.
      fail(
        storage,
        extension.offset,
        `header field crypt_method is ${cryptMethod}, but there is a header of LUKS encryption`,
      );
    }
    if (cryptMethod === QCOW_CRYPT_NONE) return undefined;
    if (cryptMethod === QCOW_CRYPT_AES) return { format: 'aes' };
    if (cryptMethod !== QCOW_CRYPT_LUKS) return { format: 'unknown', cryptMethod };
    return { format: 'luks', volume: readVolume(storage, extension, clusterBytes) };
  } catch (error) {
    if (!(error instanceof Qcow2fsError) || error.code === 'IO') throw error;
    const { code, message, data } = error;
    const offset = typeof data.offset === 'number' ? data.offset : CRYPT_METHOD_OFFSET;
    return { format: 'damaged', problem: { field: 'crypt_method', code, message, offset } };
  }
}

/** How an encryption is called that this reader lacks; undefined if there is nothing that it lacks. */
export function unsupportedEncryption(encryption: Encryption | undefined): string | undefined {
  if (encryption?.format === 'unknown') return `encryption method ${encryption.cryptMethod}`;
  if (encryption?.format !== 'luks') return undefined;
  try {
    luksAlgorithms(encryption.volume.header);
    return undefined;
  } catch (error) {
    return `LUKS encryption with ${messageOf(error)}`;
  }
}

/**
 * What the clusters of a file are encrypted with.
 * @throws Qcow2fsError UNSUPPORTED; what the header is damaged with.
 */
export function encryptionCipher(fileName: string, encryption: Encryption): CipherSpec {
  switch (encryption.format) {
    case 'aes':
      return LEGACY_AES;
    case 'luks':
      return luksAlgorithmsOf(fileName, encryption.volume.header).spec;
    case 'damaged':
      throw new Qcow2fsError(encryption.problem.code, encryption.problem.message, { data: { file: fileName } });
    case 'unknown':
      throw new Qcow2fsError(
        'UNSUPPORTED',
        `${fileName}: encryption method ${encryption.cryptMethod} (crypt_method of the header) is not supported`,
        { data: { file: fileName, cryptMethod: encryption.cryptMethod } },
      );
  }
}

/**
 * The key of the clusters. For `aes` any passphrase gives one: with a wrong one, the disk reads as noise. So its bytes are
 * taken as they are, as QEMU does; only with `luks` they are tried with all that they may mean.
 * @throws Qcow2fsError LOCKED for a wrong passphrase; UNSUPPORTED, DAMAGED, PAST_END, IO.
 */
export function unlockEncryption(
  storage: Storage,
  encryption: Encryption,
  passphrase: Buffer,
  session?: UnlockSession,
): VolumeKey {
  if (encryption.format === 'luks') return unlockLuksVolume(storage, encryption.volume, passphrase, session);
  const spec = encryptionCipher(storage.name, encryption);
  // crypto/block-qcow.c: the first 16 bytes, and zeros behind a shorter passphrase.
  const key = Buffer.alloc(spec.keyBytes);
  passphrase.copy(key);
  return toVolumeKey(spec, key);
}

function readVolume(storage: Storage, extension: HeaderExtension | undefined, clusterBytes: number): LuksVolume {
  if (extension === undefined) {
    fail(
      storage,
      CRYPT_METHOD_OFFSET,
      'header field crypt_method is 2 (LUKS), but the header extension for it is missing',
    );
  }
  const { lengthBytes, offset } = extension;
  const pointer = decodePointer(storage, extension);
  if (pointer === undefined)
    fail(storage, offset, `the header extension for LUKS has ${lengthBytes} bytes, but must have 16`);
  if (pointer.offset % clusterBytes !== 0) {
    fail(storage, offset, `the offset of the LUKS header is ${pointer.offset}, which is not cluster aligned`);
  }
  return readLuksVolume(storage, pointer.offset, pointer.lengthBytes);
}

function decodePointer(storage: Storage, { data, offset }: HeaderExtension): CryptoHeaderPointer | undefined {
  try {
    return decodeCryptoHeaderPointer(data);
  } catch (error) {
    return fail(storage, offset, messageOf(error));
  }
}

/** `offset`: of what is wrong. */
function fail(storage: Storage, offset: number, what: string): never {
  throw new Qcow2fsError('DAMAGED', `${storage.name}: ${what}`, { data: { file: storage.name, offset } });
}
