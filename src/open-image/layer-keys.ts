/** The keys of the encrypted layers of an image. */

import { createHash } from 'node:crypto';
import { Qcow2fsError } from '../errors.ts';
import type { CipherSpec } from '../luks/cipher-spec.ts';
import { totalRounds } from '../luks/pbkdf2-budget.ts';
import { createUnlockSession, type UnlockSession } from '../luks/unlock-session.ts';
import { keyBytesOf, toVolumeKey, type VolumeKey } from '../luks/volume-key.ts';
import { type Encryption, encryptionCipher, unlockEncryption } from '../qcow2/encryption.ts';
import type { Qcow2Metadata } from '../qcow2/open-qcow2.ts';
import { FileStorage } from '../storage/file-storage.ts';
import { forgetLayerKeys, type LayerKey } from './layer-key.ts';
import {
  type ChainOptions,
  closeLayers,
  type Layer,
  NO_CHAIN_OPTIONS,
  openBackingChain,
  openTopLayer,
  refuseUnsupportedLayers,
} from './layers.ts';

/** A layer that is encrypted. */
export interface EncryptedLayer extends Layer {
  readonly qcow2: Qcow2Metadata & { readonly encryption: Encryption };
}

/**
 * Gives the key of a layer; `depth` 0 is the image itself.
 * @throws Qcow2fsError LOCKED, DAMAGED, …: then the image is not opened.
 */
export type KeySource = (layer: EncryptedLayer, depth: number) => VolumeKey;

/** A file that needs a passphrase. */
export interface LockedFile {
  readonly path: string;
  /** With legacy AES so many bytes of any passphrase are the key, and nothing tells a wrong one; undefined with LUKS. */
  readonly uncheckedBytes: number | undefined;
}

/** Asks for the passphrases of files, in their order; only called with at least one. */
export type PassphraseSource = (files: readonly LockedFile[]) => Promise<readonly Buffer[]>;

/** No keys: an encrypted image is refused. */
export const withoutKeys: KeySource = ({ file }) => {
  throw new Qcow2fsError('LOCKED', `${file.path} is encrypted: its passphrase is needed`, {
    data: { file: file.path },
  });
};

/** Keys of one image that `unlockImages` has found, perhaps in another process. */
export function withKeys(keys: readonly LayerKey[]): KeySource {
  return (layer, depth) => {
    const found = keys.find((key) => key.depth === depth);
    if (found === undefined) return withoutKeys(layer, depth);
    if (found.identity !== identityOf(layer)) {
      throw new Qcow2fsError('STALE', `${layer.file.path} was changed while it was unlocked: try again`, {
        data: { file: layer.file.path },
      });
    }
    return toVolumeKey(cipherOf(layer), Buffer.from(found.key));
  };
}

/** The keys that an image had when it was opened before, for the same files with the same encryption. */
export function reusingKeys({
  layers,
  keys,
}: {
  readonly layers: readonly Layer[];
  readonly keys: readonly (VolumeKey | undefined)[];
}): KeySource {
  return (layer, depth) => {
    const identity = identityOf(layer);
    const index = layers.findIndex((known) => isEncrypted(known) && identityOf(known) === identity);
    return keys[index] ?? withoutKeys(layer, depth);
  };
}

/**
 * Adds to `keys` the key of each layer, undefined for those that are not encrypted. What was found stays in `keys` when this throws.
 * @throws Qcow2fsError what `source` throws; DAMAGED for a header that no key can help.
 */
export function findKeys(keys: (VolumeKey | undefined)[], layers: readonly Layer[], source: KeySource): void {
  for (const [depth, layer] of layers.entries()) {
    // What cannot be decrypted by any key needs none to say so.
    if (isEncrypted(layer)) cipherOf(layer);
    keys.push(isEncrypted(layer) ? source(layer, depth) : undefined);
  }
}

/**
 * Asks for the passphrases that images and their backing files need, all at once, and finds the keys. An image that cannot
 * be opened needs none: whoever opens it next says why.
 * @param maxRounds of PBKDF2, over all of them
 * @returns keys for `forgetLayerKeys`
 * @throws Qcow2fsError LOCKED for a wrong passphrase; UNSUPPORTED, DAMAGED, PAST_END, IO; what `passphrasesOf` throws.
 */
export async function unlockImages(
  imagePaths: readonly string[],
  passphrasesOf: PassphraseSource,
  chain: ChainOptions = NO_CHAIN_OPTIONS,
  maxRounds = totalRounds(imagePaths.length),
): Promise<LayerKey[]> {
  const images: (readonly Layer[])[] = [];
  try {
    for (const imagePath of imagePaths) images.push(openAll(imagePath, chain));
    const encrypted = images.flatMap((layers, image) =>
      layers.flatMap((layer, depth) => (isEncrypted(layer) ? [{ layer, image, depth }] : [])),
    );
    if (encrypted.length === 0) return [];
    // Nobody is asked for a passphrase that cannot help.
    for (const layers of images) refuseUnsupportedLayers(layers);
    for (const { layer } of encrypted) cipherOf(layer);
    const passphrases = await passphrasesOf(encrypted.map(({ layer }) => toLockedFile(layer)));
    const session = createUnlockSession(maxRounds);
    const keys: LayerKey[] = [];
    try {
      for (const [index, { layer, image, depth }] of encrypted.entries()) {
        const key = unlockLayer(layer, passphrases[index] ?? Buffer.alloc(0), session);
        keys.push({ image, depth, identity: identityOf(layer), key: keyBytesOf(key) });
      }
      return keys;
    } catch (error) {
      forgetLayerKeys(keys);
      throw error;
    } finally {
      for (const passphrase of passphrases) passphrase.fill(0);
    }
  } finally {
    for (const layers of images) closeLayers(layers);
  }
}

function isEncrypted(layer: Layer): layer is EncryptedLayer {
  return layer.qcow2?.encryption !== undefined;
}

function cipherOf({ file, qcow2 }: EncryptedLayer): CipherSpec {
  return encryptionCipher(file.path, qcow2.encryption);
}

function toLockedFile(layer: EncryptedLayer): LockedFile {
  const isUnchecked = layer.qcow2.encryption.format === 'aes';
  return { path: layer.file.path, uncheckedBytes: isUnchecked ? cipherOf(layer).keyBytes : undefined };
}

function unlockLayer({ file, qcow2 }: EncryptedLayer, passphrase: Buffer, session: UnlockSession): VolumeKey {
  return unlockEncryption(new FileStorage(file), qcow2.encryption, passphrase, session);
}

function openAll(imagePath: string, chain: ChainOptions): Layer[] {
  const layers: Layer[] = [];
  try {
    layers.push(openTopLayer(imagePath));
    openBackingChain(layers, chain);
    return layers;
  } catch (error) {
    closeLayers(layers);
    if (!(error instanceof Qcow2fsError)) throw error;
    return [];
  }
}

/** Changes with all that a key belongs to, but not when key slots are added or removed. */
function identityOf({ file, qcow2: { encryption } }: EncryptedLayer): string {
  const hash = createHash('sha256').update(`${file.identity} ${encryption.format} `);
  if (encryption.format === 'luks') {
    const { cipherName, cipherMode, masterKeyDigest, masterKeySalt } = encryption.volume.header;
    hash.update(`${cipherName} ${cipherMode} `).update(masterKeySalt).update(masterKeyDigest);
  }
  return hash.digest('hex');
}
