/** Encrypted images for mounted tests. */

import fs from 'node:fs';
import { createEncryptedImage, type EncryptedImage, fillEncrypted } from '../oracle/encrypted.ts';

export const PASSPHRASE = 'correct horse';
export const LUKS = ['encrypt.format=luks', 'encrypt.iter-time=10'];
export const SIZE_BYTES = 5 << 20;

export function makeEncryptedImage(
  folder: string,
  options: readonly string[] = LUKS,
  name = 'image.qcow2',
): EncryptedImage {
  const image = { path: `${folder}/${name}`, passphrase: PASSPHRASE, options, sizeBytes: SIZE_BYTES };
  createEncryptedImage(image);
  fillEncrypted(image, folder, 7);
  return image;
}

export function writePassphrase(folder: string, passphrase: string, name = 'passphrase'): string {
  const file = `${folder}/${name}`;
  fs.writeFileSync(file, passphrase);
  return file;
}
