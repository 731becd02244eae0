/** Encrypted images through a real mount. */

import fs from 'node:fs';
import { describe, expect, test } from 'vitest';
import { createEncryptedImage, encryptedTrueStates, fillEncrypted } from '../oracle/encrypted.ts';
import { sha256OfFile } from '../support/hash.ts';
import { withMount } from '../support/mounted-image.ts';
import { runCommand, tryCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { LUKS, makeEncryptedImage, PASSPHRASE, SIZE_BYTES, writePassphrase } from './encrypted-image.ts';
import { diskFile } from './state-files.ts';

describe.each([
  ['LUKS with CBC', [...LUKS, 'encrypt.cipher-mode=cbc', 'encrypt.ivgen-alg=essiv', 'encrypt.ivgen-hash-alg=sha256']],
  ['legacy AES', ['encrypt.format=aes']],
])('%s', (_, options) => {
  test('every state is what QEMU reads', () =>
    withTemporaryFolder(async (folder) => {
      const image = makeEncryptedImage(folder, options);
      const states = encryptedTrueStates(image, folder);
      const file = writePassphrase(folder, PASSPHRASE);
      await withMount(
        image.path,
        (mountpoint) => {
          expect(states).toHaveLength(3);
          for (const state of states) {
            expect(sha256OfFile(diskFile(mountpoint, state)), state.title).toBe(sha256OfFile(state.rawPath));
          }
        },
        { options: ['--passphrase-file', file] },
      );
    }));
});

test('LUKS with XTS: every state is what QEMU reads, also in small pieces and past the page cache', () =>
  withTemporaryFolder(async (folder) => {
    const image = makeEncryptedImage(folder);
    const states = encryptedTrueStates(image, folder);
    const file = writePassphrase(folder, `${PASSPHRASE}\n`);
    await withMount(
      image.path,
      (mountpoint) => {
        for (const state of states) {
          const shown = diskFile(mountpoint, state);
          expect(sha256OfFile(shown), state.title).toBe(sha256OfFile(state.rawPath));
          const piece = ['bs=1000', 'count=700', 'skip=1300', 'status=none'];
          expect(hashOutput('dd', [`if=${shown}`, ...piece])).toBe(hashOutput('dd', [`if=${state.rawPath}`, ...piece]));
        }
      },
      { options: ['--direct-io', '--passphrase-file', file] },
    );
  }));

test('with allow_other, who may read the image but has no passphrase gets in only if umask= says so', () =>
  withTemporaryFolder(async (folder) => {
    // What lies above the image must not be what keeps the other user out.
    fs.chmodSync(folder, 0o755);
    const image = makeEncryptedImage(folder);
    fs.chmodSync(image.path, 0o644);
    const file = writePassphrase(folder, `${PASSPHRASE}\n`);
    const readAsOther = (mountpoint: string) =>
      tryCommand('setpriv', [
        ...['--reuid=65534', '--regid=65534', '--clear-groups'],
        ...['head', '-c', '512', `${mountpoint}/current/disk.raw`],
      ]);
    for (const [list, status] of [['allow_other', 1] as const, ['allow_other,umask=022', 0] as const]) {
      const options = ['-o', list, '--passphrase-file', file];
      await withMount(image.path, (mountpoint) => expect(readAsOther(mountpoint).status, list).toBe(status), {
        options,
      });
    }
  }));

test('a chain takes one passphrase for each of its encrypted files', () =>
  withTemporaryFolder(async (folder) => {
    const backing = makeEncryptedImage(folder, LUKS, 'base.qcow2');
    const image = { path: `${folder}/top.qcow2`, passphrase: 'top', options: LUKS, sizeBytes: SIZE_BYTES, backing };
    createEncryptedImage(image);
    fillEncrypted(image, folder, 8);
    const states = encryptedTrueStates(image, folder);
    const files = [writePassphrase(folder, 'top', 'one'), writePassphrase(folder, PASSPHRASE, 'two')];
    await withMount(
      image.path,
      (mountpoint) => {
        for (const state of states) {
          expect(sha256OfFile(diskFile(mountpoint, state)), state.title).toBe(sha256OfFile(state.rawPath));
        }
      },
      { options: files.flatMap((file) => ['--passphrase-file', file]) },
    );
  }));

function hashOutput(command: string, args: readonly string[]): string {
  return runCommand('bash', ['-c', '"$@" | sha256sum', 'bash', command, ...args]);
}
