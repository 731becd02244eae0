/** Passphrases and keys are in no log, and keys are gone when a mount has ended. */

import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import tmp from 'tmp';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { unlockImages } from '../../src/open-image/layer-keys.ts';
import { daemonOf, waitUntil, waitUntilGone, withPlace } from '../daemon/mounting.ts';
import type { EncryptedImage } from '../oracle/encrypted.ts';
import { QCOW2FS } from '../support/mounted-image.ts';
import { tryCommand } from '../support/run-command.ts';
import { makeEncryptedImage, PASSPHRASE, writePassphrase } from './encrypted-image.ts';

const WATCH_KEYS = pathToFileURL(path.join(import.meta.dirname, 'watch-keys.mjs')).href;

const shared = tmp.dirSync({ prefix: 'qcow2fs-encrypted-', unsafeCleanup: true });
let image: EncryptedImage;
let key: Buffer;

beforeAll(async () => {
  image = makeEncryptedImage(shared.name);
  const [found] = await unlockImages([image.path], async () => [Buffer.from(PASSPHRASE)]);
  key = found?.key ?? Buffer.alloc(0);
  expect(key).toHaveLength(64);
});

afterAll(() => shared.removeCallback());

test('no passphrase and no key is in what is logged, however much that is', () =>
  withPlace(async ({ folder, mountpoint }) => {
    const logFile = `${folder}/log`;
    const run = (...args: string[]) => {
      const { status, stderr, stdout } = tryCommand(QCOW2FS, args, { env: { DEBUG: 'qcow2fs:*' } });
      return { status, text: stdout + stderr };
    };
    const options = (passphrase: string) => [
      '--log-file',
      logFile,
      '--passphrase-file',
      writePassphrase(folder, passphrase),
    ];
    const wrong = run('mount', ...options(`${PASSPHRASE}!`), image.path, mountpoint);
    expect(wrong.status).toBe(1);
    expect(wrong.text).toMatch(/qcow2fs:cli/);
    const mounted = run('mount', ...options(PASSPHRASE), image.path, mountpoint);
    expect(mounted.status).toBe(0);
    fs.readFileSync(`${mountpoint}/current/disk.raw`);
    const metadata = fs.readFileSync(`${mountpoint}/image.json`, 'utf8');
    const unmounted = run('umount', mountpoint);
    expect(unmounted.status).toBe(0);
    await waitUntilGone(mountpoint);
    const log = fs.readFileSync(logFile, 'utf8');
    expect(log).toMatch(/qcow2fs:daemon/);
    for (const text of [wrong.text, mounted.text, unmounted.text, metadata, log]) {
      for (const secret of [Buffer.from(PASSPHRASE), key]) {
        for (const form of formsOf(secret)) expect(text).not.toContain(form);
      }
    }
  }));

test.each([
  ['umount', (mountpoint: string) => tryCommand(QCOW2FS, ['umount', mountpoint])],
  ['SIGTERM', (mountpoint: string) => process.kill(daemonOf(mountpoint), 'SIGTERM')],
])('a daemon that %s ends has overwritten its keys, and so has the process that started it', (_, end) =>
  withPlace(async ({ folder, mountpoint }) => {
    const env = { NODE_OPTIONS: `--import=${WATCH_KEYS}`, WATCH_KEYS_FOLDER: folder };
    const options = ['--passphrase-file', writePassphrase(folder, PASSPHRASE)];
    expect(tryCommand(QCOW2FS, ['mount', ...options, image.path, mountpoint], { env })).toMatchObject({ status: 0 });
    const daemon = daemonOf(mountpoint);
    process.kill(daemon, 'SIGUSR2');
    await waitUntil(() => fs.existsSync(`${folder}/${daemon}.signal`));
    expect(fs.readFileSync(`${folder}/${daemon}.signal`, 'utf8')).toContain(key.toString('hex'));
    end(mountpoint);
    await waitUntil(() => fs.existsSync(`${folder}/${daemon}.end`));
    const ends = fs.readdirSync(folder).filter((name) => name.endsWith('.end'));
    expect(ends.length).toBeGreaterThan(1);
    for (const name of ends) expect(fs.readFileSync(`${folder}/${name}`, 'utf8')).not.toContain(key.toString('hex'));
    expect(fs.readFileSync(`${folder}/${daemon}.end`, 'utf8')).toContain('00'.repeat(key.length));
  }),
);

/** How bytes may get into a text; of `util.inspect` and JSON the beginning, as the rest may be left out. */
function formsOf(secret: Buffer): string[] {
  const head = [...secret.subarray(0, 8)];
  const hexadecimal = head.map((byte) => byte.toString(16).padStart(2, '0'));
  return [
    secret.toString('latin1'),
    secret.toString('base64').slice(0, 8),
    hexadecimal.join(''),
    hexadecimal.join(' '),
    head.join(','),
    head.join(', '),
  ];
}
