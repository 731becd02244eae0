/** The files of a mount that cannot be served in the end. */

import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import * as readAhead from '../../src/daemon/choose-read-ahead.ts';
import { closeServedImage, openServedImage } from '../../src/daemon/served-image.ts';
import { closeServedImages, openServedImages } from '../../src/daemon/served-images.ts';
import { openScratch } from '../../src/daemon/served-scratch.ts';
import { collectWarnings } from '../fuse/wire-bytes.ts';
import { openFilesOf } from '../support/descriptors.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { optionsFor } from './daemon-options.ts';
import { makeImage } from './mounting.ts';

vi.mock('../../src/daemon/choose-read-ahead.ts', { spy: true });

const SCRATCH = { state: 'monday', maxDeltaBytes: 1 << 20 };

beforeEach(() => void collectWarnings());
afterEach(() => {
  vi.restoreAllMocks();
});

const isOfTest = (folder: string) => (file: string) => file.startsWith(folder) || file.includes('.qcow2fs-delta-');

test('a scratch view that cannot be served leaves no file open, neither its delta nor the image', () =>
  withTemporaryFolder(async (folder) => {
    const options = { ...optionsFor(makeImage(folder)), scratch: SCRATCH };
    const served = await openServedImages(options, []);
    expect(openFilesOf().filter(isOfTest(folder))).toHaveLength(2);
    closeServedImages(served);
    vi.mocked(readAhead.chooseReadAhead).mockImplementation(() => {
      throw new Error('no memory');
    });
    await expect(openServedImages(options, [])).rejects.toThrow('no memory');
    expect(openFilesOf().filter(isOfTest(folder))).toEqual([]);
  }));

test('a state without inode numbers is found before there is a delta', () =>
  withTemporaryFolder(async (folder) => {
    const image = makeImage(folder);
    const served = await openServedImage(image, [], optionsFor(image));
    try {
      const contents = { ...served.contents, places: new Uint32Array(0) };
      await expect(openScratch({ ...served, contents }, SCRATCH)).rejects.toMatchObject({ code: 'INTERNAL' });
      expect(openFilesOf().filter(isOfTest(folder))).toEqual([image]);
    } finally {
      closeServedImage(served);
    }
  }));
