/** What is left of keys when an image could not be opened: zeros, unless somebody else goes on using them. */

import fs from 'node:fs';
import { afterEach, expect, test } from 'vitest';
import { type PassphraseSource, reusingKeys, unlockImages, withKeys } from '../../src/open-image/layer-keys.ts';
import { NO_CHAIN_OPTIONS } from '../../src/open-image/layers.ts';
import { closeImage, openImage } from '../../src/open-image/open-image.ts';
import { createEncryptedImage } from '../oracle/encrypted.ts';
import { catchError } from '../support/catch-error.ts';
import { restoreSharedMemory, watchKeyMemories } from '../support/key-memories.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

const OPTIONS = ['encrypt.format=luks', 'encrypt.iter-time=10'];

interface Images {
  readonly folder: string;
  /** On `base`. */
  readonly top: string;
  readonly base: string;
}

/** Both are encrypted, with the passphrase `x`. */
function withImages(body: (images: Images) => Promise<void>): Promise<void> {
  return withTemporaryFolder((folder) => {
    const [top, base] = [`${folder}/top.qcow2`, `${folder}/base.qcow2`];
    createEncrypted(base);
    createEncrypted(top, { path: base, passphrase: 'x' });
    return body({ folder, top, base });
  });
}

function createEncrypted(path: string, backing?: { path: string; passphrase: string }): void {
  createEncryptedImage({
    path,
    passphrase: 'x',
    options: OPTIONS,
    sizeBytes: 1 << 20,
    ...(backing === undefined ? {} : { backing }),
  });
}

function answer(...passphrases: string[]): PassphraseSource {
  return async (files) => files.map((_, index) => Buffer.from(passphrases[index] ?? ''));
}

function descriptorCount(): number {
  return fs.readdirSync('/proc/self/fd').length;
}

afterEach(restoreSharedMemory);

test('a wrong passphrase for one file forgets the keys of those before', () =>
  withImages(async ({ top, base }) => {
    const memories = watchKeyMemories();
    await unlockImages([top], answer('x', 'x'));
    expect(memories.areInUse()).toEqual([true, true]);
    const before = descriptorCount();
    await expect(unlockImages([top], answer('x', 'y'))).rejects.toMatchObject({ code: 'LOCKED' });
    expect(memories.areInUse()).toEqual([false]);
    await expect(unlockImages([base, top], answer('x', 'x', 'y'))).rejects.toMatchObject({ code: 'LOCKED' });
    expect(memories.areInUse()).toEqual([false, false]);
    expect(descriptorCount()).toBe(before);
  }));

test('an image that cannot be opened for want of a key forgets the others', () =>
  withImages(async ({ top }) => {
    const keys = await unlockImages([top], answer('x', 'x'));
    const memories = watchKeyMemories();
    const before = descriptorCount();
    const withoutSecond = withKeys(keys.filter(({ depth }) => depth === 0));
    expect(catchError(() => openImage(top, withoutSecond)).code).toBe('LOCKED');
    expect(memories.areInUse()).toEqual([false]);
    expect(descriptorCount()).toBe(before);
    const image = openImage(top, withKeys(keys));
    expect(memories.areInUse()).toEqual([true, true]);
    closeImage(image);
  }));

test('an image that there is no memory for forgets its keys', () =>
  withImages(async ({ top }) => {
    const keys = await unlockImages([top], answer('x', 'x'));
    const memories = watchKeyMemories(1 << 20);
    const before = descriptorCount();
    expect(() => openImage(top, withKeys(keys))).toThrow(RangeError);
    expect(memories.areInUse()).toEqual([false, false]);
    expect(descriptorCount()).toBe(before);
  }));

test('an image that cannot be opened anew leaves the keys to the one that is open', () =>
  withImages(async ({ folder, top, base }) => {
    const keys = await unlockImages([top], answer('x', 'x'));
    const previous = openImage(top, withKeys(keys));
    try {
      createEncrypted(`${folder}/other.qcow2`);
      fs.renameSync(`${folder}/other.qcow2`, base);
      const again = { previous, openPath: top };
      const before = descriptorCount();
      const error = catchError(() => openImage(top, reusingKeys(previous), NO_CHAIN_OPTIONS, again));
      expect(error.code).toBe('LOCKED');
      expect(descriptorCount()).toBe(before);
      expect(previous.keys.map((key) => key && Buffer.from(key.memory).equals(Buffer.alloc(64)))).toEqual([
        false,
        false,
      ]);
    } finally {
      closeImage(previous);
    }
  }));
