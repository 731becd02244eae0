/** The keys and files of an image that cannot be served, or is served in another way from now on. */

import fs from 'node:fs';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { ImageWatch } from '../../src/daemon/image-watch.ts';
import { closeServedImage, openServedImage, retireServedImage } from '../../src/daemon/served-image.ts';
import { unlockImages } from '../../src/open-image/layer-keys.ts';
import { collectWarnings } from '../fuse/wire-bytes.ts';
import { createEncryptedImage } from '../oracle/encrypted.ts';
import { countDescriptors } from '../support/descriptors.ts';
import { restoreSharedMemory, watchKeyMemories } from '../support/key-memories.ts';
import { runCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

const OPTIONS = { chain: { allowedFolders: [] }, onMissing: 'error', ownership: {}, isCurrentLive: false } as const;
/** Of the header of qcow2. */
const L1_TABLE_OFFSET = 40;

beforeEach(() => void collectWarnings());
afterEach(() => {
  restoreSharedMemory();
  vi.restoreAllMocks();
});

/** `top` on `base`, both with the passphrase `x`. */
function withImages(body: (top: string, base: string) => Promise<void>): Promise<void> {
  return withTemporaryFolder((folder) => {
    const [top, base] = [`${folder}/top.qcow2`, `${folder}/base.qcow2`];
    const options = ['encrypt.format=luks', 'encrypt.iter-time=10'];
    createEncryptedImage({ path: base, passphrase: 'x', options, sizeBytes: 1 << 20 });
    const backing = { path: base, passphrase: 'x' };
    createEncryptedImage({ path: top, passphrase: 'x', options, sizeBytes: 1 << 20, backing });
    return body(top, base);
  });
}

const answer = async (files: readonly unknown[]) => files.map(() => Buffer.from('x'));

test('an image whose backing file cannot be read is closed again', () =>
  withImages(async (top, base) => {
    const file = fs.openSync(base, 'r+');
    fs.writeSync(file, Buffer.from('0000000000000123', 'hex'), 0, 8, L1_TABLE_OFFSET);
    fs.closeSync(file);
    const keys = await unlockImages([top], answer);
    const memories = watchKeyMemories();
    const before = countDescriptors();
    await expect(openServedImage(top, keys, OPTIONS)).rejects.toMatchObject({ code: 'DAMAGED' });
    const inUse = memories.areInUse();
    expect(inUse.length).toBeGreaterThan(1);
    expect(inUse).not.toContain(true);
    expect(countDescriptors()).toBe(before);
  }));

test('the key of a backing file that the image does without from now on is forgotten, its own is not', () =>
  withImages(async (top) => {
    const first = await openServedImage(top, await unlockImages([top], answer), OPTIONS);
    const watch = new ImageWatch(first, { ...OPTIONS, mountpoint: '/mnt' });
    const areZeros = () => first.image.keys.map((key) => key && Buffer.from(key.memory).equals(Buffer.alloc(64)));
    expect(areZeros()).toEqual([false, false]);
    const secret = ['--object', 'secret,id=s,data=x'];
    const image = `driver=qcow2,encrypt.key-secret=s,file.filename=${top}`;
    runCommand('qemu-img', ['rebase', '-q', '-u', ...secret, '--image-opts', image, '-b', '']);
    const next = watch.look();
    if (next === undefined) throw new Error('nothing new is served');
    retireServedImage(first, next);
    expect(areZeros()).toEqual([false, true]);
    closeServedImage(next);
    expect(areZeros()).toEqual([true, true]);
  }));
