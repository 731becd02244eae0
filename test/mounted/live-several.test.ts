/** Several images in one mount, and encrypted ones, that change. */

import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { waitUntil } from '../daemon/mounting.ts';
import { changeSnapshot, encryptedTrueStates, writeEncrypted } from '../oracle/encrypted.ts';
import { createSnapshot, deleteSnapshot } from '../oracle/qemu.ts';
import { tryCommand } from '../support/run-command.ts';
import { makeEncryptedImage, PASSPHRASE, writePassphrase } from './encrypted-image.ts';
import {
  currentDisk,
  FAR,
  fillDisk,
  type LiveMount,
  letterAt,
  letterOf,
  makeLiveImage,
  snapshotDisk,
  waitUntilFollowed,
  whileOpen,
  withLiveImage,
} from './live.ts';
import { diskFile } from './state-files.ts';

interface TwoImages {
  readonly live: LiveMount;
  /** Where `live.image` is shown. */
  readonly first: string;
  /** The other image. */
  readonly second: string;
  /** Where that is shown. */
  readonly other: string;
}

/** Runs `body` with two images of `makeLiveImage` in one mount. */
function withTwoImages(transport: string, body: (images: TwoImages) => Promise<void>): Promise<void> {
  return withLiveImage(async (live) => {
    const second = makeLiveImage(path.join(live.folder, 'second.qcow2'));
    live.mount(['--transport', transport], [live.image, second]);
    await body({
      live,
      second,
      first: path.join(live.mountpoint, 'disk'),
      other: path.join(live.mountpoint, 'second'),
    });
    live.unmount();
  });
}

test.each(['kernel', 'fuse-native'])(
  'one of several images changes, and nothing happens to the others: %s',
  (transport) =>
    withTwoImages(transport, async ({ live, first, second, other }) => {
      const inodes = () =>
        [snapshotDisk(other, 'monday'), currentDisk(other), path.join(other, 'image.json')].map(
          (file) => fs.statSync(file).ino,
        );
      const before = inodes();
      await whileOpen(currentDisk(other), (current) =>
        whileOpen(snapshotDisk(other, 'tuesday'), async (tuesday) => {
          deleteSnapshot(live.image, 'tuesday');
          fillDisk(live.image, 'd');
          createSnapshot(live.image, 'tuesday');
          await waitUntilFollowed(first, live.image);
          expect(letterAt(snapshotDisk(first, 'tuesday'), FAR)).toBe('d');
          expect([letterOf(current, FAR), letterOf(tuesday, FAR)]).toEqual(['c', 'b']);
          fs.rmSync(live.image);
          await waitUntil(() => live.log().includes('was moved or deleted'));
          expect([letterOf(current, 0), letterOf(tuesday, 0)]).toEqual(['c', 'b']);
          expect(inodes()).toEqual(before);
          createSnapshot(second, 'wednesday');
          await waitUntilFollowed(other, second);
        }),
      );
    }),
);

test.each(['kernel', 'fuse-native'])(
  'an image whose path leads into its own mount is not looked for there, and the others are followed: %s',
  (transport) =>
    withTwoImages(transport, async ({ live, first, second, other }) => {
      const moved = `${live.image}.moved`;
      fs.renameSync(live.image, moved);
      fs.symlinkSync(snapshotDisk(other, 'monday'), live.image);
      await waitUntil(() => live.log().includes(`${live.image} leads into its own mount`));
      for (const name of ['one', 'two', 'three']) {
        createSnapshot(second, name);
        await waitUntilFollowed(other, second);
      }
      expect(letterAt(snapshotDisk(first, 'monday'), FAR)).toBe('a');
      fs.renameSync(moved, live.image);
      createSnapshot(live.image, 'back');
      await waitUntilFollowed(first, live.image);
    }),
);

test('an encrypted image is followed without another word about its passphrase', () =>
  withLiveImage(async (live) => {
    const image = makeEncryptedImage(live.folder);
    const passphraseFile = writePassphrase(live.folder, PASSPHRASE);
    live.mount(['--passphrase-file', passphraseFile], [image.path]);
    fs.rmSync(passphraseFile);
    await whileOpen(snapshotDisk(live.mountpoint, 'first'), async (first) => {
      changeSnapshot(image, '-d', 'second');
      writeEncrypted(image, ['write -q -P 100 0 2M']);
      changeSnapshot(image, '-c', 'third');
      writeEncrypted(image, ['write -q -P 101 0 1M']);
      await waitUntilFollowed(live.mountpoint, image.path);
      for (const state of encryptedTrueStates(image, live.folder)) {
        const { status, stderr } = tryCommand('cmp', [state.rawPath, diskFile(live.mountpoint, state)]);
        expect(`${status} ${stderr}`, state.title).toBe('0 ');
      }
      const truth = fs.readFileSync(path.join(live.folder, 'snapshot-1.raw'));
      const bytes = Buffer.alloc(truth.length);
      fs.readSync(first, bytes, 0, bytes.length, 0);
      expect(bytes.equals(truth)).toBe(true);
    });
    live.unmount();
  }));
