/** An image that is opened for one command, with the passphrases that it needs. */

import { forgetLayerKeys } from './layer-key.ts';
import { type PassphraseSource, unlockImages, withKeys } from './layer-keys.ts';
import type { ChainOptions } from './layers.ts';
import { type OpenImage, openSettledImage } from './open-image.ts';

export interface UnlockOptions {
  readonly chain: ChainOptions;
  readonly passphrasesOf: PassphraseSource;
}

/** @throws Qcow2fsError as `unlockImages` and `openSettledImage`. */
export async function openUnlockedImage(
  imagePath: string,
  { chain, passphrasesOf }: UnlockOptions,
): Promise<OpenImage> {
  const keys = await unlockImages([imagePath], passphrasesOf, chain);
  try {
    return await openSettledImage(imagePath, withKeys(keys), chain);
  } finally {
    forgetLayerKeys(keys);
  }
}
