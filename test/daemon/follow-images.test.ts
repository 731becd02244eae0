/** What is opened anew, and cannot be handed over. */

import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { followImages } from '../../src/daemon/follow-images.ts';
import { followSource } from '../../src/daemon/follow-source.ts';
import {
  closeServedImages,
  createFileSystem,
  createOutline,
  openServedImages,
  retireServedImages,
  type ServedImages,
} from '../../src/daemon/served-images.ts';
import { unlockImages } from '../../src/open-image/layer-keys.ts';
import { collectWarnings } from '../fuse/wire-bytes.ts';
import { createEncryptedImage } from '../oracle/encrypted.ts';
import { createImage, createSnapshot } from '../oracle/qemu.ts';
import { openFilesOf } from '../support/descriptors.ts';
import { runCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { optionsFor } from './daemon-options.ts';

const PATIENCE = { timeout: 5000, interval: 20 };

let warnings: string[];

beforeEach(() => {
  warnings = collectWarnings();
});
afterEach(() => {
  vi.restoreAllMocks();
});

/** How often a file is open. */
function openCount(path: string): number {
  return openFilesOf().filter((file) => file === path).length;
}

function makeSnapshot(path: string, name: string): void {
  const image = `driver=qcow2,encrypt.key-secret=s,file.filename=${path}`;
  runCommand('qemu-img', ['snapshot', '--object', 'secret,id=s,data=x', '--image-opts', '-c', name, image]);
}

test('what is not handed over is tried again, is closed when something newer comes or at the end, and takes no key with it', () =>
  withTemporaryFolder(async (folder) => {
    const path = `${folder}/disk.qcow2`;
    const options = ['encrypt.format=luks', 'encrypt.iter-time=10'];
    createEncryptedImage({ path, passphrase: 'x', options, sizeBytes: 1 << 20 });
    const keys = await unlockImages([path], async () => [Buffer.from('x')]);
    let served = await openServedImages(optionsFor(path), keys);
    let isFailing = true;
    const seen: number[] = [];
    const following = followImages(served, optionsFor(path), (next: ServedImages) => {
      seen.push(next.images[0]?.image.snapshotMemory.count ?? 0);
      if (isFailing) throw new Error('no memory');
      retireServedImages(served, next);
      served = next;
    });
    const key = served.images[0]?.image.keys[0]?.memory;
    if (key === undefined) throw new Error('not encrypted');
    const isKeyThere = () => Buffer.from(key).some((byte) => byte !== 0);
    try {
      makeSnapshot(path, 'monday');
      await vi.waitFor(() => expect(seen).toContain(1), PATIENCE);
      makeSnapshot(path, 'tuesday');
      await vi.waitFor(() => expect(seen).toContain(2), PATIENCE);
      expect(warnings.join()).toContain('the images have changed, and what is new cannot be shown yet: no memory');
      expect(isKeyThere()).toBe(true);
      expect(openCount(path)).toBe(2);
      isFailing = false;
      await vi.waitFor(() => expect(served.images[0]?.image.snapshotMemory.count).toBe(2), PATIENCE);
      expect(openCount(path)).toBe(1);
      expect(isKeyThere()).toBe(true);
      isFailing = true;
      makeSnapshot(path, 'wednesday');
      await vi.waitFor(() => expect(seen).toContain(3), PATIENCE);
      expect(openCount(path)).toBe(2);
      following.stop();
      expect(openCount(path)).toBe(1);
    } finally {
      following.stop();
      closeServedImages(served);
    }
    expect(isKeyThere()).toBe(false);
    expect(openCount(path)).toBe(0);
  }));

test('what cannot be compared with what is served is not taken over', () =>
  withTemporaryFolder(async (folder) => {
    const path = `${folder}/disk.qcow2`;
    createImage(path, { sizeBytes: 1 << 20 });
    const serving = { served: await openServedImages(optionsFor(path), []) };
    const first = serving.served;
    let failureCount = 0;
    const failingOutline = (served: ServedImages) => {
      if (served !== first && failureCount < 2) {
        failureCount++;
        throw new Error('no memory');
      }
      return createOutline(served);
    };
    const replace = vi.fn(async () => {});
    const source = {
      follow: followImages,
      createFileSystem,
      createOutline: failingOutline,
      retire: retireServedImages,
    };
    const following = followSource(optionsFor(path), source, serving, { replace });
    try {
      createSnapshot(path, 'monday');
      await vi.waitFor(() => expect(failureCount).toBe(1), PATIENCE);
      expect(serving.served).toBe(first);
      createSnapshot(path, 'tuesday');
      await vi.waitFor(() => expect(replace).toHaveBeenCalledOnce(), PATIENCE);
      expect(serving.served.images[0]?.image.snapshotMemory.count).toBe(2);
    } finally {
      following?.stop();
      closeServedImages(serving.served);
    }
    expect(openCount(path)).toBe(0);
  }));
