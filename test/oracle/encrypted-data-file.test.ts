/** Encrypted images with an external data file: the header with the keys is in the image, the ciphertext in the data file. */

import fs from 'node:fs';
import { expect, test } from 'vitest';
import { closeImage, openImage } from '../../src/open-image/open-image.ts';
import { StateDisks } from '../../src/open-image/state-disks.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { withPassphrase } from '../support/with-passphrase.ts';
import { createEncryptedImage, encryptedTrueStates, writeEncrypted } from './encrypted.ts';

const LUKS = ['encrypt.format=luks', 'encrypt.iter-time=10'];

test.each([
  ['LUKS', LUKS],
  ['LUKS, data_file_raw', [...LUKS, 'data_file_raw=on']],
  ['LUKS, extended L2', [...LUKS, 'extended_l2=on']],
  ['legacy AES', ['encrypt.format=aes']],
])('%s with a data file reads as QEMU reads it', (_, options) =>
  withTemporaryFolder((folder) => {
    const dataFile = `${folder}/disk.data`;
    const image = {
      path: `${folder}/disk.qcow2`,
      passphrase: 'geheim',
      options: [...options, `data_file=${dataFile}`],
      sizeBytes: 8 << 20,
    };
    createEncryptedImage(image);
    writeEncrypted(image, [
      'write -q -P 1 0 100k',
      'write -q -P 2 3M 1M',
      'write -q -z 3584k 128k',
      'write -q -P 3 8387584 1k',
    ]);
    const [current] = encryptedTrueStates(image, folder);
    const truth = fs.readFileSync(current?.rawPath ?? '');
    // It is encrypted indeed.
    expect(
      fs
        .readFileSync(dataFile)
        .subarray(3 << 20, 4 << 20)
        .equals(truth.subarray(3 << 20, 4 << 20)),
    ).toBe(false);
    const open = openImage(image.path, withPassphrase(Buffer.from('geheim')));
    try {
      const disk = new StateDisks(open).disk(0);
      const bytes = Buffer.alloc(disk.sizeBytes);
      disk.readAt(bytes, 0, 0, bytes.length);
      expect(bytes.equals(truth)).toBe(true);
    } finally {
      closeImage(open);
    }
  }),
);
