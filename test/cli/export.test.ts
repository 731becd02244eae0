/** `qcow2fs export`, run as a user runs it. */

import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { withMachine } from '../mounted/live-machine.ts';
import { changeSnapshot, createEncryptedImage, encryptedTrueStates, writeEncrypted } from '../oracle/encrypted.ts';
import { expectWholeImage, infoOf } from '../oracle/exported.ts';
import { createImage, createSnapshot, resizeImage, runQemuIo } from '../oracle/qemu.ts';
import { trueStates } from '../oracle/truth.ts';
import { sha256OfFile } from '../support/hash.ts';
import { QCOW2FS } from '../support/mounted-image.ts';
import { tryCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

const MIB = 1024 * 1024;

const exportState = (...args: readonly string[]) => tryCommand(QCOW2FS, ['export', ...args]);

/** A machine's disk with the snapshots `monday` and `small`, each unlike the current state, and raw files of the truth. */
async function withImage(
  body: (image: string, folder: string, raw: Readonly<Record<string, string>>) => void | Promise<void>,
): Promise<void> {
  await withTemporaryFolder(async (folder) => {
    const image = `${folder}/disk.qcow2`;
    createImage(image, { sizeBytes: 8 * MIB + 512 });
    runQemuIo(image, ['write -q -P 1 0 1M', 'write -q -P 2 3M 1M', 'write -q -P 9 8M 512']);
    createSnapshot(image, 'monday');
    resizeImage(image, 5 * MIB + 1536);
    runQemuIo(image, ['write -q -P 3 512k 128k', 'write -q -z 3M 512k', 'write -q -P 4 5M 1536']);
    createSnapshot(image, 'small');
    resizeImage(image, 7 * MIB);
    runQemuIo(image, ['write -q -P 5 0 64k', 'write -q -P 6 4M 3M']);
    const states = trueStates(image, folder).map(({ snapshot, rawPath }) => [snapshot?.name ?? 'current', rawPath]);
    await body(image, folder, Object.fromEntries(states));
  });
}

function expectRefusal(result: ReturnType<typeof exportState>, message: RegExp, status = 1): void {
  expect({ status: result.status, stdout: result.stdout }).toEqual({ status, stdout: '' });
  expect(result.stderr).toMatch(/^qcow2fs: [^\n]*\n$/);
  expect(result.stderr).toMatch(message);
}

describe('export', () => {
  test.each(['current', 'monday', 'small'])('%s is what differs from the image, in a file of its own', (state) =>
    withImage((image, folder, raw) => {
      const before = sha256OfFile(image);
      const { mtimeNs } = fs.statSync(image, { bigint: true });
      const file = `${folder}/export.qcow2`;
      const { status, stdout, stderr } = exportState(path.relative('.', image), state, file);
      expect([status, stdout.split('\n').length]).toEqual([0, 2]);
      expect(stdout).toMatch(
        /^\S+\/export\.qcow2: a disk of [\d.]+ MiB, [\d.]+ [KM]iB in the file, the rest is in \/\S+\n$/,
      );
      expect(stderr).toMatch(/^qcow2fs: [^\n]* as long as nobody writes to [^\n]*disk\.qcow2[^\n]*--flat\n$/);
      expectWholeImage(file, raw[state] ?? '');
      expect(infoOf(file)).toMatchObject({
        'cluster-size': 65536,
        'backing-filename': image,
        'backing-filename-format': 'qcow2',
        'format-specific': { data: { compat: '1.1', 'refcount-bits': 16 } },
      });
      const { mode, uid } = fs.statSync(file);
      expect([mode & 0o777, uid]).toEqual([0o600, process.getuid?.()]);
      expect(sha256OfFile(image)).toBe(before);
      expect(fs.statSync(image, { bigint: true }).mtimeNs).toBe(mtimeNs);
    }),
  );

  test.each(['current', 'monday', 'small'])('%s --flat is all of it', (state) =>
    withImage((image, folder, raw) => {
      const file = `${folder}/export.qcow2`;
      const { status, stdout, stderr } = exportState('--flat', image, state, file);
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      expect(stdout).toMatch(/^\S+\/export\.qcow2: a disk of [\d.]+ MiB, [\d.]+ MiB in the file\n$/);
      fs.rmSync(image);
      expectWholeImage(file, raw[state] ?? '');
      expect(infoOf(file)).not.toHaveProperty('backing-filename');
    }),
  );

  test.each(['monday', 'small'])(
    '%s can be made larger: there are zeros behind its end, not what the image has',
    (state) =>
      withImage((image, folder, raw) => {
        const [file, rawPath = ''] = [`${folder}/export.qcow2`, raw[state]];
        expect(exportState(image, state, file).status).toBe(0);
        resizeImage(file, 12 * MIB);
        fs.truncateSync(rawPath, 12 * MIB);
        expectWholeImage(file, rawPath);
      }),
  );

  test('clusters of zeros and of data meet where the map of one table ends', () =>
    withTemporaryFolder((folder) => {
      const [image, file] = [`${folder}/disk.qcow2`, `${folder}/export.qcow2`];
      createImage(image, { sizeBytes: 1024 * MIB });
      // Bytes that are zeros, not marks: they are found by reading.
      runQemuIo(image, ['write -q -P 1 511M 2M', 'write -q -P 0 511936k 128k', 'write -q -P 0 524224k 128k']);
      createSnapshot(image, 'before');
      runQemuIo(image, ['write -q -P 2 510M 4M']);
      const [, before] = trueStates(image, folder);
      expect(exportState(image, 'before', file).status).toBe(0);
      expectWholeImage(file, before?.rawPath ?? '');
    }));

  test('what the image has no more is stored, though it has the same before its end', () =>
    withTemporaryFolder((folder) => {
      const [image, file] = [`${folder}/disk.qcow2`, `${folder}/export.qcow2`];
      createImage(image, { sizeBytes: 2 * MIB });
      runQemuIo(image, ['write -q -P 1 0 2M']);
      createSnapshot(image, 'before');
      // Within a cluster.
      resizeImage(image, MIB + 32768);
      // The same bytes in other places: they are found by reading.
      runQemuIo(image, [`write -q -P 1 0 ${MIB + 32768}`]);
      const [, before] = trueStates(image, folder);
      expect(exportState(image, 'before', file).status).toBe(0);
      expectWholeImage(file, before?.rawPath ?? '');
    }));

  test('a disk of 16 TiB takes no longer than what is in it', () =>
    withTemporaryFolder((folder) => {
      const image = `${folder}/disk.qcow2`;
      createImage(image, { sizeBytes: 2 ** 44 - 512 });
      runQemuIo(image, ['write -q -P 1 0 1M', 'write -q -P 2 8T 64k']);
      createSnapshot(image, 'before');
      runQemuIo(image, ['write -q -P 3 16383G 1M', 'write -q -P 4 8T 4k']);
      for (const options of [[], ['--flat']]) {
        const file = `${folder}/export${options.length}.qcow2`;
        const startedAtMs = performance.now();
        expect(exportState(...options, image, 'before', file).status).toBe(0);
        expect(performance.now() - startedAtMs).toBeLessThan(20_000);
        expect(fs.statSync(file).size).toBeLessThan(8 * MIB);
        expect(infoOf(file)['virtual-size']).toBe(2 ** 44 - 512);
        runQemuIo(file, ['read -q -P 1 0 1M', 'read -q -P 2 8T 64k', 'read -q -P 0 16383G 1M', 'read -q -P 0 1M 1M']);
        expect(tryCommand('qemu-img', ['check', '-q', file])).toEqual({ status: 0, stdout: '', stderr: '' });
      }
    }));

  test('ulimit -f that is lower than the file is named', () =>
    withImage((image, folder) => {
      const file = `${folder}/export.qcow2`;
      const args = ['--fsize=1048576', QCOW2FS, 'export', '--flat', image, 'monday', file];
      expectRefusal(
        tryCommand('prlimit', args),
        /export\.qcow2 cannot be written at offset \d+: this process may write files of 1048576 bytes at most: raise that limit \(ulimit -f\)\n$/,
      );
      expect(fs.existsSync(file)).toBe(false);
    }));

  test('an encrypted image has no overlay, and a flat copy that is plain', () =>
    withTemporaryFolder((folder) => {
      const image = { path: `${folder}/disk.qcow2`, passphrase: 'correct horse', sizeBytes: 4 * MIB };
      const [key, file] = [`${folder}/key`, `${folder}/export.qcow2`];
      fs.writeFileSync(key, image.passphrase);
      createEncryptedImage({ ...image, options: ['encrypt.format=luks', 'encrypt.iter-time=10'] });
      writeEncrypted(image, ['write -q -P 1 0 1M']);
      changeSnapshot(image, '-c', 'monday');
      writeEncrypted(image, ['write -q -P 2 0 1M']);
      const rawPath = encryptedTrueStates(image, folder)[1]?.rawPath ?? '';
      const args = ['--passphrase-file', key, image.path, 'monday', file];
      expectRefusal(exportState(...args), /is encrypted.*--flat/);
      expect(fs.existsSync(file)).toBe(false);
      const { status, stderr } = exportState('--flat', ...args);
      expect(status).toBe(0);
      expect(stderr).toMatch(/^qcow2fs: warning: \S+export\.qcow2 is not encrypted: [^\n]*\n$/);
      expectWholeImage(file, rawPath);
    }));

  test('what is damaged in the current state alone is in the way of no snapshot', () =>
    withTemporaryFolder((folder) => {
      const [image, file] = [`${folder}/disk.qcow2`, `${folder}/export.qcow2`];
      createImage(image, { sizeBytes: 4 * MIB });
      runQemuIo(image, ['write -q -P 1 0 1M']);
      createSnapshot(image, 'before');
      runQemuIo(image, ['write -q -P 2 64k 64k']);
      fs.truncateSync(image, fs.statSync(image).size - 65536);
      const [, before] = trueStates(image, folder);
      expectRefusal(exportState('--flat', image, 'current', file), /past the end of the file/);
      expect(fs.existsSync(file)).toBe(false);
      expect(exportState(image, 'before', file).status).toBe(0);
      expectWholeImage(file, before?.rawPath ?? '');
    }));

  test('beside a running machine: a flat copy of a snapshot, and nothing that needs the current state', () =>
    withImage((image, folder, raw) =>
      withMachine(image, async () => {
        const file = `${folder}/export.qcow2`;
        expectRefusal(exportState(image, 'monday', file), /is written to by qemu-system.*--flat/);
        expectRefusal(exportState('--flat', image, 'current', file), /is written to by qemu-system/);
        expect(fs.existsSync(file)).toBe(false);
        expect(exportState('--flat', image, 'monday', file).status).toBe(0);
        expectWholeImage(file, raw.monday ?? '');
      }),
    ));
});

describe('what is there already is not overwritten:', () => {
  const places: readonly [string, (image: string, folder: string) => string][] = [
    ['the image', (image) => image],
    ['its backing file', (_, folder) => `${folder}/base.raw`],
    ['another file', (_, folder) => `${folder}/other`],
    ['a symlink to nothing', (_, folder) => `${folder}/symlink`],
    ['a folder', (_, folder) => folder],
  ];
  test.each(places)('%s', (_, place) =>
    withTemporaryFolder((folder) => {
      const image = `${folder}/disk.qcow2`;
      for (const name of ['base.raw', 'other']) fs.writeFileSync(`${folder}/${name}`, name.repeat(512));
      fs.symlinkSync('nothing', `${folder}/symlink`);
      createImage(image, { sizeBytes: MIB, backing: { name: 'base.raw', format: 'raw' } });
      const files = ['disk.qcow2', 'base.raw', 'other'].map((name) => `${folder}/${name}`);
      const before = files.map(sha256OfFile);
      for (const options of [[], ['--flat']]) {
        expectRefusal(exportState(...options, image, 'current', place(image, folder)), /nothing is overwritten/);
      }
      expect(files.map(sha256OfFile)).toEqual(before);
      expect(fs.readdirSync(folder).sort()).toEqual(['base.raw', 'disk.qcow2', 'other', 'symlink']);
    }),
  );
});

describe('wrong use of export', () => {
  test.each([
    ['a state that is not there', ['disk.qcow2', 'gone', 'new'], 1, /no snapshot is called gone/],
    [
      'a folder that is not there',
      ['disk.qcow2', 'current', 'gone/new'],
      1,
      /gone\/new cannot be made: there is no such folder/,
    ],
    ['no name for the file', ['disk.qcow2', 'current', ''], 2, /FILE is empty/],
    ['no name for the delta', ['--delta', '', 'disk.qcow2', 'current', 'new'], 2, /--delta is empty/],
    [
      'an overlay over another backing file',
      ['--backing', 'x', 'disk.qcow2', 'current', 'new'],
      2,
      /leave --backing out/,
    ],
    [
      'an overlay without the backing file',
      ['--no-backing', 'disk.qcow2', 'current', 'new'],
      2,
      /goes with --flat only/,
    ],
  ])('%s is one line', (_, args, status, message) =>
    withTemporaryFolder((folder) => {
      createImage(`${folder}/disk.qcow2`, { sizeBytes: MIB });
      expectRefusal(tryCommand(QCOW2FS, ['export', ...args], { cwd: folder }), message, status);
      expect(fs.readdirSync(folder)).toEqual(['disk.qcow2']);
    }),
  );

  test('the path of the image is too long for a backing file', () =>
    withTemporaryFolder((folder) => {
      const deep = path.join(folder, ...Array.from({ length: 5 }, () => 'd'.repeat(200)));
      fs.mkdirSync(deep, { recursive: true });
      createImage(`${folder}/disk.qcow2`, { sizeBytes: MIB });
      fs.renameSync(`${folder}/disk.qcow2`, `${deep}/disk.qcow2`);
      const file = `${folder}/new.qcow2`;
      expectRefusal(exportState(`${deep}/disk.qcow2`, 'current', file), /qcow2 takes 1023 at most/);
      expect(fs.existsSync(file)).toBe(false);
      expect(exportState('--flat', `${deep}/disk.qcow2`, 'current', file).status).toBe(0);
    }));
});
