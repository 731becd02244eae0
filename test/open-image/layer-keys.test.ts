/** Keys of encrypted layers, on images that qemu-img writes. */

import fs from 'node:fs';
import { describe, expect, test } from 'vitest';
import type { ErrorCode } from '../../src/errors.ts';
import { type LockedFile, type PassphraseSource, unlockImages, withKeys } from '../../src/open-image/layer-keys.ts';
import { NO_CHAIN_OPTIONS } from '../../src/open-image/layers.ts';
import { closeImage, openImage } from '../../src/open-image/open-image.ts';
import { createEncryptedImage } from '../oracle/encrypted.ts';
import { catchError } from '../support/catch-error.ts';
import { countDescriptors } from '../support/descriptors.ts';
import { runCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { withPassphrase } from '../support/with-passphrase.ts';

const EXTENSION_MAGIC = Buffer.from('0537be77', 'hex');

/** Its passphrase is `x`. Those with the same `iterTimeMs` have the same key. */
function createEncrypted(folder: string, name: string, iterTimeMs = 10): void {
  const options = ['encrypt.format=luks', `encrypt.iter-time=${iterTimeMs}`];
  createEncryptedImage({ path: `${folder}/${name}`, passphrase: 'x', options, sizeBytes: 1 << 20 });
}

function createOverlay(folder: string, image: string, backing: string): void {
  const args = ['create', '-q', '-u', '-f', 'qcow2', '-b', backing, '-F', 'qcow2', `${folder}/${image}`, '1M'];
  runCommand('qemu-img', args);
}

test('a backing chain with an encrypted file in it is refused without its passphrase', () =>
  withTemporaryFolder((folder) => {
    createEncrypted(folder, 'base.qcow2');
    createOverlay(folder, 'top.qcow2', 'base.qcow2');
    const before = countDescriptors();
    const error = catchError(() => openImage(`${folder}/top.qcow2`));
    expect(error.code).toBe('LOCKED');
    expect(error.message).toBe(`${folder}/base.qcow2 is encrypted: its passphrase is needed`);
    const wrong = catchError(() => openImage(`${folder}/top.qcow2`, withPassphrase(Buffer.from('y'))));
    expect(wrong.message).toContain(`${folder}/base.qcow2: the passphrase is wrong`);
    expect(countDescriptors()).toBe(before);
    const image = openImage(`${folder}/top.qcow2`, withPassphrase(Buffer.from('x')));
    expect(image.keys.map((key) => key !== undefined)).toEqual([false, true]);
    closeImage(image);
  }));

describe('what is wrong with the encryption of a backing file is told with its name', () => {
  const headerOf = (image: Buffer) => image.subarray(image.indexOf('LUKS\xba\xbe', 0, 'latin1'));
  test.each<[string, ErrorCode, RegExp, (image: Buffer) => void]>([
    ['a wrong passphrase', 'LOCKED', /^: the passphrase is wrong/, () => {}],
    ['another cipher', 'UNSUPPORTED', /^ uses LUKS .*"serpent"/, (image) => headerOf(image).write('serpent\0', 8)],
    ['another hash', 'UNSUPPORTED', /^ uses LUKS .*"whirlpool"/, (image) => headerOf(image).write('whirlpool\0', 72)],
    ['a method of the future', 'UNSUPPORTED', /^ uses encryption method 9/, makeMethodNine],
    ['another version', 'UNSUPPORTED', /^: LUKS version 2/, (image) => headerOf(image).writeUInt16BE(2, 6)],
    [
      'a damaged header',
      'DAMAGED',
      /^: the LUKS header .* a key of 0 bytes/,
      (image) => headerOf(image).fill(0, 108, 112),
    ],
    [
      'a damaged pointer',
      'DAMAGED',
      /^: .* not cluster aligned/,
      (image) => image.fill(1, pointerOf(image) + 6, pointerOf(image) + 8),
    ],
    [
      'a huge pointer',
      'DAMAGED',
      /^: .* far too large/,
      (image) => image.fill(1, pointerOf(image), pointerOf(image) + 8),
    ],
    ['a damaged slot', 'DAMAGED', /^: .*key slot 0: it has 0 stripes/, (image) => headerOf(image).fill(0, 252, 256)],
    ['endless work', 'DAMAGED', /^: .*waste time/, (image) => headerOf(image).fill(0x7f, 212, 216)],
  ])('%s', (what, code, rest, change) =>
    withTemporaryFolder(async (folder) => {
      const base = `${folder}/base.qcow2`;
      createEncrypted(folder, 'base.qcow2');
      const image = fs.readFileSync(base);
      change(image);
      fs.writeFileSync(base, image);
      createOverlay(folder, 'top.qcow2', 'base.qcow2');
      const before = countDescriptors();
      const asked: string[] = [];
      const passphrases = async (files: readonly LockedFile[]) => {
        asked.push(...files.map(({ path }) => path));
        return files.map(() => Buffer.from('y'));
      };
      const unlocking = unlockImages([`${folder}/top.qcow2`], passphrases);
      const message = expect.stringMatching(new RegExp(`^${base}${rest.source.slice(1)}`));
      await expect(unlocking).rejects.toMatchObject({ code, message, data: { file: base } });
      expect(countDescriptors()).toBe(before);
      // Nobody is asked for a passphrase that cannot help.
      expect(asked.length === 0).toBe(/another|method|header|pointer/.test(what));
    }),
  );

  function pointerOf(image: Buffer): number {
    return image.indexOf(EXTENSION_MAGIC) + 8;
  }

  /** Without the extension, which only LUKS has. */
  function makeMethodNine(image: Buffer): void {
    image.writeUInt32BE(9, 32);
    image.writeUInt32BE(0x12345678, image.indexOf(EXTENSION_MAGIC));
  }
});

describe('a chain of three encrypted files', () => {
  test('has one limit for the work of all of them, and the file behind it is named', () =>
    withTemporaryFolder(async (folder) => {
      const rounds = createEncryptedChain(folder);
      const unlock = (passphrase: string, maxRounds: number) =>
        unlockImages([`${folder}/0.qcow2`], answer(passphrase), NO_CHAIN_OPTIONS, maxRounds);
      expect(await unlock('x', 3 * rounds)).toHaveLength(3);
      await expect(unlock('x', 3 * rounds - 1)).rejects.toMatchObject({
        code: 'DAMAGED',
        message: expect.stringMatching(new RegExp(`^${folder}/2.qcow2: [^\\n]* ${3 * rounds} rounds of PBKDF2`)),
      });
      await expect(unlock('x', rounds)).rejects.toMatchObject({ data: { file: `${folder}/1.qcow2` } });
    }));

  test('with a newline behind the passphrase, needs one try more, not twice as many', () =>
    withTemporaryFolder(async (folder) => {
      const rounds = createEncryptedChain(folder);
      const unlock = (maxRounds: number) =>
        unlockImages([`${folder}/0.qcow2`], answer('x\n'), NO_CHAIN_OPTIONS, maxRounds);
      expect(await unlock(4 * rounds)).toHaveLength(3);
      await expect(unlock(4 * rounds - 1)).rejects.toMatchObject({ data: { file: `${folder}/2.qcow2` } });
    }));

  function answer(passphrase: string): PassphraseSource {
    return async (files) => files.map(() => Buffer.from(passphrase));
  }

  /** 0.qcow2 on 1.qcow2 on 2.qcow2. Returns what one of them asks for: its key has 64 bytes, a digest of SHA-256 32. */
  function createEncryptedChain(folder: string): number {
    for (const name of ['0', '1', '2']) createEncrypted(folder, `${name}.qcow2`);
    for (const name of [0, 1]) rebase(`${folder}/${name}.qcow2`, `${name + 1}.qcow2`);
    const image = fs.readFileSync(`${folder}/2.qcow2`);
    const header = image.subarray(image.indexOf('LUKS\xba\xbe', 0, 'latin1'));
    return 2 * header.readUInt32BE(212) + header.readUInt32BE(164);
  }

  function rebase(image: string, backing: string): void {
    const options = `driver=qcow2,encrypt.key-secret=s,file.filename=${image}`;
    const secret = ['--object', 'secret,id=s,data=x'];
    runCommand('qemu-img', ['rebase', '-q', '-u', ...secret, '--image-opts', options, '-b', backing, '-F', 'qcow2']);
  }
});

describe('keys that were found before', () => {
  test('open the image that they are of, and no other', () =>
    withTemporaryFolder(async (folder) => {
      const image = `${folder}/top.qcow2`;
      createEncrypted(folder, 'top.qcow2');
      const before = countDescriptors();
      const passphrase = Buffer.from('x');
      const keys = await unlockImages([image], async () => [passphrase]);
      expect(passphrase[0]).toBe(0);
      expect(countDescriptors()).toBe(before);
      const open = openImage(image, withKeys(keys));
      const memory = open.keys[0]?.memory ?? new SharedArrayBuffer(0);
      expect(Buffer.from(memory).equals(keys[0]?.key ?? Buffer.alloc(0))).toBe(true);
      closeImage(open);
      expect(Buffer.from(memory).equals(Buffer.alloc(64))).toBe(true);
      expect(catchError(() => openImage(image, withKeys([]))).code).toBe('LOCKED');
      createEncrypted(folder, 'top.qcow2', 11);
      expect(catchError(() => openImage(image, withKeys(keys))).code).toBe('STALE');
      expect(countDescriptors()).toBe(before);
    }));

  test('are not asked for when nothing is encrypted, or the image cannot be opened', () =>
    withTemporaryFolder(async (folder) => {
      const never = () => Promise.reject(new Error('asked'));
      createOverlay(folder, 'top.qcow2', 'gone.qcow2');
      expect(await unlockImages([`${folder}/top.qcow2`], never)).toEqual([]);
      expect(await unlockImages([`${folder}/gone.qcow2`], never)).toEqual([]);
    }));
});
