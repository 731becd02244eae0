/** Exports that cannot be done to their end: they leave no file. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { describe, expect, test } from 'vitest';
import { findDaemons } from '../../src/daemon/find-daemons.ts';
import { waitUntil } from '../daemon/mounting.ts';
import { createImage, createSnapshot, deleteSnapshot, resizeImage, runQemuIo } from '../oracle/qemu.ts';
import { Random } from '../oracle/random.ts';
import { QCOW2FS } from '../support/mounted-image.ts';
import { runCommand, tryCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

const MIB = 1024 * 1024;
const TIB = 2 ** 40;

interface Slow {
  readonly image: string;
  readonly file: string;
}

/**
 * An image whose snapshot takes hours to be read, and no space: it shows a raw file that is one hole, and a raw file counts as
 * data throughout. The current state is much smaller.
 */
function makeSlowImage(folder: string): Slow {
  const image = `${folder}/disk.qcow2`;
  fs.writeFileSync(`${folder}/base.raw`, '');
  fs.truncateSync(`${folder}/base.raw`, 4 * TIB);
  createImage(image, {
    sizeBytes: 4 * TIB,
    options: ['cluster_size=2M'],
    backing: { name: 'base.raw', format: 'raw' },
  });
  runQemuIo(image, ['write -q -P 7 0 4M']);
  createSnapshot(image, 'slow');
  resizeImage(image, 4 * MIB);
  runQemuIo(image, ['write -q -P 8 0 4M']);
  return { image, file: `${folder}/export.qcow2` };
}

/** Runs an export of the slow snapshot, and `body` once it has begun to write. */
async function whileExporting(
  { image, file }: Slow,
  options: readonly string[],
  body: (kill: (signal: NodeJS.Signals) => void) => void,
): Promise<{ status: number | null; signal: string | null; stdout: string; stderr: string }> {
  const child = spawn(QCOW2FS, ['export', ...options, image, 'slow', file], { stdio: ['ignore', 'pipe', 'pipe'] });
  const [output, ended] = [{ stdout: '', stderr: '' }, once(child, 'close')];
  child.stdout.on('data', (text) => (output.stdout += text));
  child.stderr.on('data', (text) => (output.stderr += text));
  try {
    await waitUntil(() => child.exitCode !== null || (fs.existsSync(file) && fs.statSync(file).size > 0));
    expect(child.exitCode, output.stderr).toBe(null);
    body((signal) => child.kill(signal));
    const [status, signal] = await ended;
    return { status, signal, ...output };
  } finally {
    child.kill('SIGKILL');
    await ended;
  }
}

describe('an export leaves no file', () => {
  test.each(['SIGINT', 'SIGQUIT', 'SIGTERM', 'SIGHUP'] as const)('when it is ended by %s, and ends by it', (name) =>
    withTemporaryFolder(async (folder) => {
      const slow = makeSlowImage(folder);
      const result = await whileExporting(slow, [], (kill) => kill(name));
      expect(result).toEqual({ status: null, signal: name, stdout: '', stderr: '' });
      expect(fs.readdirSync(folder).sort()).toEqual(['base.raw', 'disk.qcow2']);
    }),
  );

  test('when its snapshot is deleted', () =>
    withTemporaryFolder(async (folder) => {
      const slow = makeSlowImage(folder);
      const result = await whileExporting(slow, ['--flat'], () => deleteSnapshot(slow.image, 'slow'));
      expect(result).toMatchObject({ status: 1, stdout: '' });
      expect(result.stderr).toMatch(/^qcow2fs: [^\n]*the snapshot was deleted[^\n]*\n$/);
      expect(fs.existsSync(slow.file)).toBe(false);
    }));

  test('when the image is written to that the overlay would stand on', () =>
    withTemporaryFolder(async (folder) => {
      const slow = makeSlowImage(folder);
      const result = await whileExporting(slow, [], () => runQemuIo(slow.image, ['write -q -P 1 3M 4k']));
      expect(result).toMatchObject({ status: 1, stdout: '' });
      expect(result.stderr).toMatch(/^qcow2fs: [^\n]*disk\.qcow2 was changed[^\n]*\n$/);
      expect(fs.existsSync(slow.file)).toBe(false);
    }));

  test('when the daemon of a view gets a second signal, and keeps the changes', () =>
    withTemporaryFolder(async (folder) => {
      const { image, file } = makeSlowImage(folder);
      const mountpoint = `${folder}/mnt`;
      fs.mkdirSync(mountpoint);
      const words = ['scratch', '--foreground', '--export', file, image, 'slow', mountpoint];
      const child = spawn(QCOW2FS, words, { stdio: ['ignore', 'ignore', 'pipe'] });
      let messages = '';
      child.stderr.on('data', (text) => (messages += text));
      const ended = once(child, 'close');
      try {
        await waitUntil(() => child.exitCode !== null || fs.existsSync(`${mountpoint}/disk.raw`));
        child.kill('SIGTERM');
        await waitUntil(() => child.exitCode !== null || (fs.existsSync(file) && fs.statSync(file).size > 0));
        child.kill('SIGTERM');
        expect(await ended).toEqual([1, null]);
        expect(messages).toBe(
          `qcow2fs: ${file} was not exported: a signal has ended it; the changes are in ${file}.delta\n`,
        );
        expect(fs.readdirSync(folder).sort()).toEqual(['base.raw', 'disk.qcow2', 'export.qcow2.delta', 'mnt']);
      } finally {
        child.kill('SIGKILL');
        await ended;
      }
    }));

  test('that is taken for whole when the daemon of a view is killed, and keeps the changes', () =>
    withTemporaryFolder(async (folder) => {
      const { image, file } = makeSlowImage(folder);
      const mountpoint = `${folder}/mnt`;
      fs.mkdirSync(mountpoint);
      runCommand(QCOW2FS, ['scratch', '--export', file, image, 'slow', mountpoint]);
      const [daemon = 0] = findDaemons(mountpoint);
      const child = spawn(QCOW2FS, ['umount', mountpoint], { stdio: ['ignore', 'ignore', 'pipe'] });
      let messages = '';
      child.stderr.on('data', (text) => (messages += text));
      const ended = once(child, 'close');
      await waitUntil(() => fs.existsSync(file) && fs.statSync(file).size > 0);
      process.kill(daemon, 'SIGKILL');
      expect(await ended).toEqual([1, null]);
      expect(messages).toBe(
        `qcow2fs: ${mountpoint} is unmounted, but its process was killed before it was done: ${file} may not be whole ` +
          `(\`qemu-img check\`), and only what was written before the last fsync(2) is sure to be in ${file}.delta\n`,
      );
      expect(fs.existsSync(`${file}.delta`)).toBe(true);
    }));

  test('when somebody else has put a file in its place, but that one stays', () =>
    withTemporaryFolder(async (folder) => {
      const slow = makeSlowImage(folder);
      const result = await whileExporting(slow, [], (kill) => {
        fs.renameSync(slow.file, `${folder}/moved`);
        fs.writeFileSync(slow.file, 'theirs');
        kill('SIGINT');
      });
      expect(result.signal).toBe('SIGINT');
      expect(fs.readFileSync(slow.file, 'utf8')).toBe('theirs');
      // What is not whole is no image.
      expect(tryCommand('qemu-img', ['info', '-f', 'qcow2', `${folder}/moved`]).status).toBe(1);
    }));

  test.each([
    ['an overlay', []],
    ['a flat copy', ['--flat']],
  ])('when the file system gets full: %s', (_, options) =>
    withTemporaryFolder((folder) => {
      const [image, small] = [`${folder}/disk.qcow2`, `${folder}/small`];
      fs.writeFileSync(`${folder}/pattern`, new Random(1).bytes(4 * MIB));
      createImage(image, { sizeBytes: 8 * MIB });
      runQemuIo(image, [`write -q -s ${folder}/pattern 0 4M`]);
      createSnapshot(image, 'monday');
      runQemuIo(image, ['write -q -P 1 0 4M']);
      fs.mkdirSync(small);
      runCommand('mount', ['-t', 'tmpfs', '-o', 'size=2M', 'tmpfs', small]);
      try {
        const result = tryCommand(QCOW2FS, ['export', ...options, image, 'monday', `${small}/export.qcow2`]);
        expect([result.status, result.stdout]).toEqual([1, '']);
        expect(result.stderr).toMatch(
          /^qcow2fs: \S+export\.qcow2 cannot be written [^\n]*ENOSPC[^\n]*make room[^\n]*\n$/,
        );
        expect(fs.readdirSync(small)).toEqual([]);
      } finally {
        runCommand('umount', [small]);
      }
    }),
  );
});
