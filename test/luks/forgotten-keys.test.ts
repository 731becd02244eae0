/** What is left of a key, and of what it is made from, when it is not got in the end: zeros. */

import type { BinaryLike } from 'node:crypto';
import fs from 'node:fs';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { parseCipherSpec } from '../../src/luks/cipher-spec.ts';
import { toVolumeKey } from '../../src/luks/volume-key.ts';
import { unlockEncryption } from '../../src/qcow2/encryption.ts';
import { openQcow2 } from '../../src/qcow2/open-qcow2.ts';
import { BufferStorage } from '../../src/storage/buffer-storage.ts';
import { createEncryptedImage } from '../oracle/encrypted.ts';
import { KEY_BYTES, restoreSharedMemory, watchKeyMemories } from '../support/key-memories.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

/** What went through these functions, and where one of them fails. */
const seen = vi.hoisted(() => ({ hashed: [] as unknown[], stripes: [] as Buffer[], failing: '' }));

vi.mock('node:crypto', async (importOriginal) => {
  const original = await importOriginal<typeof import('node:crypto')>();
  const pbkdf2Sync = (what: BinaryLike, ...rest: [BinaryLike, number, number, string]) => {
    seen.hashed.push(what);
    if (seen.failing === 'digest' && seen.hashed.length === 2) throw new Error('no memory');
    return original.pbkdf2Sync(what, ...rest);
  };
  return { ...original, pbkdf2Sync };
});

vi.mock('../../src/luks/af-split.ts', async (importOriginal) => {
  const original = await importOriginal<typeof import('../../src/luks/af-split.ts')>();
  const mergeStripes: typeof original.mergeStripes = (stripes, ...rest) => {
    seen.stripes.push(stripes);
    if (seen.failing === 'merge') throw new Error('no memory');
    return original.mergeStripes(stripes, ...rest);
  };
  return { ...original, mergeStripes };
});

beforeEach(() => {
  Object.assign(seen, { hashed: [], stripes: [], failing: '' });
});
afterEach(restoreSharedMemory);

function unlock(): Promise<Buffer> {
  return withTemporaryFolder((folder) => {
    const options = ['encrypt.format=luks', 'encrypt.iter-time=10'];
    createEncryptedImage({ path: `${folder}/disk.qcow2`, passphrase: 'x', options, sizeBytes: 1 << 20 });
    const { encryption, storage } = openQcow2(new BufferStorage(fs.readFileSync(`${folder}/disk.qcow2`), 'disk.qcow2'));
    if (encryption === undefined) throw new Error('not encrypted');
    return Promise.resolve(Buffer.from(unlockEncryption(storage, encryption, Buffer.from('x')).memory));
  });
}

const isZeros = (bytes: unknown) => Buffer.isBuffer(bytes) && bytes.every((byte) => byte === 0);

test('a volume is unlocked, and only its key is left', async () => {
  expect(isZeros(await unlock())).toBe(false);
  expect(seen.hashed).toHaveLength(2);
  expect(seen.stripes.map(isZeros)).toEqual([true]);
});

test('a key whose digest cannot be had is forgotten', async () => {
  seen.failing = 'digest';
  await expect(unlock()).rejects.toThrow('no memory');
  expect(seen.hashed[1]).toHaveLength(KEY_BYTES);
  expect(isZeros(seen.hashed[1])).toBe(true);
});

test('stripes that cannot be merged are forgotten', async () => {
  seen.failing = 'merge';
  await expect(unlock()).rejects.toThrow('no memory');
  expect(seen.stripes.map(isZeros)).toEqual([true]);
});

test('a key that there is no shared memory for is forgotten', () => {
  watchKeyMemories(KEY_BYTES - 1);
  const bytes = Buffer.alloc(KEY_BYTES, 7);
  expect(() => toVolumeKey(parseCipherSpec('aes', 'xts-plain64', KEY_BYTES), bytes)).toThrow(RangeError);
  expect(isZeros(bytes)).toBe(true);
});
