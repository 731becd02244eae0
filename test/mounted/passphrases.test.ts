/** Every way to give a passphrase to a real mount, and every way not to get one. */

import fs from 'node:fs';
import path from 'node:path';
import tmp from 'tmp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findDaemons } from '../../src/daemon/find-daemons.ts';
import { findMount } from '../../src/fuse/mountinfo.ts';
import { addKeySlot, type EncryptedImage } from '../oracle/encrypted.ts';
import { runCommand, tryCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { typeOnTerminal } from '../support/terminal.ts';
import { makeEncryptedImage, PASSPHRASE, writePassphrase } from './encrypted-image.ts';

const QCOW2FS = path.resolve(import.meta.dirname, '../../bin/qcow2fs');

/** One image for all tests that only mount it. */
const shared = tmp.dirSync({ prefix: 'qcow2fs-encrypted-', unsafeCleanup: true });
let sharedImage: EncryptedImage;

beforeAll(() => {
  sharedImage = makeEncryptedImage(shared.name);
});

afterAll(() => shared.removeCallback());

describe('a passphrase', () => {
  test('comes from standard input', () =>
    withMountpoint(async (_, mountpoint) => {
      runCommand(QCOW2FS, ['mount', '--passphrase-file', '-', sharedImage.path, mountpoint], {
        input: `${PASSPHRASE}\n`,
      });
      expect(fs.readdirSync(mountpoint)).toContain('current');
    }));

  test('is asked for on the terminal, and not shown', () =>
    withMountpoint(async (_, mountpoint) => {
      const { output, status } = await typeOnTerminal(
        `${QCOW2FS} mount ${sharedImage.path} ${mountpoint}`,
        `${PASSPHRASE}\r`,
      );
      expect(status).toBe(0);
      expect(output).toBe(`passphrase of ${sharedImage.path}: \r\n`);
      expect(fs.readdirSync(mountpoint)).toContain('current');
    }));

  test('is in no argument and no environment of the daemon', () =>
    withMountpoint(async (folder, mountpoint) => {
      const file = writePassphrase(folder, PASSPHRASE);
      runCommand(QCOW2FS, ['mount', '--passphrase-file', file, sharedImage.path, mountpoint]);
      for (const pid of findDaemons(mountpoint)) {
        for (const name of ['cmdline', 'environ']) {
          expect(fs.readFileSync(`/proc/${pid}/${name}`, 'latin1')).not.toContain(PASSPHRASE);
        }
      }
      const info = JSON.parse(fs.readFileSync(`${mountpoint}/image.json`, 'utf8'));
      expect(info.encryption).toMatchObject({
        format: 'luks',
        cipher: 'aes-xts-plain64',
        keyBits: 512,
        hash: 'sha256',
      });
    }));
});

describe('nothing is mounted', () => {
  test.each([
    ['with a wrong passphrase', 'wrong', 'the passphrase is wrong: it opens no key slot'],
    ['with an empty passphrase', '', 'the passphrase is wrong: it opens no key slot'],
  ])('%s', (_, passphrase, message) =>
    withMountpoint(async (folder, mountpoint) => {
      const options = ['--passphrase-file', writePassphrase(folder, passphrase)];
      const { status, stderr } = tryCommand(QCOW2FS, ['mount', ...options, sharedImage.path, mountpoint]);
      expect(stderr).toBe(`qcow2fs: ${sharedImage.path}: ${message}\n`);
      expect(status).toBe(1);
      expect(findMount(mountpoint)).toBeUndefined();
    }),
  );

  test('without a passphrase and a terminal', () =>
    withMountpoint(async (_, mountpoint) => {
      const { status, stderr } = tryCommand('setsid', ['--wait', QCOW2FS, 'mount', sharedImage.path, mountpoint]);
      expect(stderr).toMatch(/^qcow2fs: [^\n]*is encrypted, and there is no terminal[^\n]*--passphrase-file FILE\n$/);
      expect(status).toBe(1);
      expect(findMount(mountpoint)).toBeUndefined();
    }));

  test('with Ctrl-C at the prompt', () =>
    withMountpoint(async (_, mountpoint) => {
      const { output, status } = await typeOnTerminal(`${QCOW2FS} mount ${sharedImage.path} ${mountpoint}`, 'cor\x03');
      expect(output).toContain('no passphrase');
      expect(status).toBe(1);
      expect(findMount(mountpoint)).toBeUndefined();
    }));
});

test('info says how an image is encrypted, without its passphrase', () =>
  withTemporaryFolder((folder) => {
    const image = makeEncryptedImage(folder);
    addKeySlot(image, 5, 'another');
    const info = JSON.parse(runCommand(QCOW2FS, ['info', '--json', image.path]));
    expect(info.encryption).toMatchObject({
      format: 'luks',
      cipherName: 'aes',
      cipherMode: 'xts',
      ivGenerator: 'plain64',
      keyBits: 512,
      hash: 'sha256',
      keySlots: { count: 8, used: [0, 5] },
    });
    expect(info.unsupportedFeatures).toEqual([]);
    const text = runCommand(QCOW2FS, ['info', image.path]);
    expect(text).toMatch(/^encryption: +luks, aes-xts-plain64, key of 512 bits$/m);
    expect(text).toMatch(/^key slots in use: +0, 5 of 0 to 7$/m);
  }));

/** Unmounts whatever `body` has mounted. */
async function withMountpoint(body: (folder: string, mountpoint: string) => Promise<void>): Promise<void> {
  await withTemporaryFolder(async (folder) => {
    const mountpoint = `${folder}/mnt`;
    fs.mkdirSync(mountpoint);
    try {
      await body(folder, mountpoint);
    } finally {
      if (findMount(mountpoint) !== undefined) runCommand(QCOW2FS, ['umount', mountpoint]);
    }
  });
}
