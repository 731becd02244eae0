/** Images that are named by a descriptor: other processes, and later ones, have others. */

import { spawn } from 'node:child_process';
import fs from 'node:fs';
import { describe, expect, test } from 'vitest';
import { weekImagePath } from '../../src/demo/week.ts';
import { findProcessName } from '../../src/storage/process-name.ts';
import { isMountpoint, withPlace } from '../daemon/mounting.ts';
import { withExec } from '../exec/exec-place.ts';
import { expectWholeImage, infoOf } from '../oracle/exported.ts';
import { trueStates } from '../oracle/truth.ts';
import { sha256OfFile } from '../support/hash.ts';
import { QCOW2FS } from '../support/mounted-image.ts';
import { type CommandResult, tryCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

/** Runs it with the image as its descriptors 0 and 7, in the folder of the image. */
const DIRECTLY = 'cd "$1"; exec 7<shop.qcow2; shift; exec "$@" <&7';
/** The same, of an image that has no name any more. */
const DELETED = 'cd "$1"; exec 7<shop.qcow2; rm shop.qcow2; shift; exec "$@" <&7';
const PIPED = 'cd "$1"; shift; cat shop.qcow2 | "$@"';

const run = (script: string, folder: string, ...args: readonly string[]): CommandResult =>
  tryCommand('sh', ['-c', script, 'sh', folder, QCOW2FS, ...args]);

function copyWeek(folder: string): string {
  const image = `${folder}/shop.qcow2`;
  fs.copyFileSync(weekImagePath, image);
  return image;
}

/** Its raw file is the truth. */
function rawOf(image: string, folder: string, name: string): string {
  return trueStates(image, folder).find(({ snapshot }) => snapshot?.name === name)?.rawPath ?? '';
}

const NAMES = ['/dev/stdin', '/dev/fd/7', '/proc/self/fd/7', '/proc/self/cwd/shop.qcow2', 'link'];

describe('an overlay names the image by a name that stays:', () => {
  test.each(NAMES)('%s', (name) =>
    withTemporaryFolder((folder) => {
      const image = copyWeek(folder);
      fs.symlinkSync('/dev/stdin', `${folder}/link`);
      const file = `${folder}/z.qcow2`;
      const { status, stderr } = run(DIRECTLY, folder, 'export', name, 'thursday', file);
      expect([status, stderr]).toEqual([0, expect.stringContaining(`nobody writes to ${image}:`)]);
      expect(infoOf(file)).toMatchObject({ 'backing-filename': image });
      expectWholeImage(file, rawOf(image, folder, 'thursday'));
    }),
  );

  test('the descriptor of another process', () =>
    withTemporaryFolder((folder) => {
      const [image, file] = [copyWeek(folder), `${folder}/z.qcow2`];
      const fd = fs.openSync(image, 'r');
      try {
        const name = `/proc/${process.pid}/fd/${fd}`;
        expect(tryCommand(QCOW2FS, ['export', name, 'thursday', file]).status).toBe(0);
      } finally {
        fs.closeSync(fd);
      }
      expect(infoOf(file)).toMatchObject({ 'backing-filename': image });
    }));

  test('a view, which is written as an overlay when it ends', () =>
    withPlace(async ({ folder, mountpoint }) => {
      const [image, file] = [copyWeek(folder), `${folder}/z.qcow2`];
      const words = ['scratch', '--export', file, '/dev/fd/7', 'thursday', mountpoint];
      expect(run(DIRECTLY, folder, ...words)).toEqual({ status: 0, stdout: '', stderr: '' });
      expect(tryCommand(QCOW2FS, ['umount', mountpoint])).toEqual({ status: 0, stdout: '', stderr: '' });
      expect(infoOf(file)).toMatchObject({ 'backing-filename': image });
      expectWholeImage(file, rawOf(image, folder, 'thursday'));
    }));

  test.each(['/dev/stdin', '/dev/fd/7'])('not %s of a file that was deleted, of which there are flat copies', (name) =>
    withTemporaryFolder((folder) => {
      const [image, file] = [copyWeek(folder), `${folder}/z.qcow2`];
      const raw = rawOf(image, folder, 'thursday');
      const { status, stdout, stderr } = run(DELETED, folder, 'export', name, 'thursday', file);
      expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
      expect(stderr).toMatch(/^qcow2fs: \/dev\/\S+ leads through \/proc, [^\n]*name the file itself, or use --flat\n$/);
      expect(fs.existsSync(file)).toBe(false);
      copyWeek(folder);
      expect(run(DELETED, folder, 'export', '--flat', name, 'thursday', file).status).toBe(0);
      expectWholeImage(file, raw);
    }),
  );
});

describe('the process that serves opens the file of the descriptor:', () => {
  test.each(NAMES)('%s', (name) =>
    withPlace(async ({ folder, mountpoint }) => {
      const image = copyWeek(folder);
      fs.symlinkSync('/dev/stdin', `${folder}/link`);
      expect(run(DIRECTLY, folder, 'mount', name, mountpoint)).toEqual({ status: 0, stdout: '', stderr: '' });
      const disk = `${mountpoint}/snapshots/thursday/disk.raw`;
      expect(sha256OfFile(disk)).toBe(sha256OfFile(rawOf(image, folder, 'thursday')));
      expect(tryCommand(QCOW2FS, ['umount', mountpoint]).status).toBe(0);
    }),
  );

  test('for a command', () =>
    withExec(({ folder }) => {
      copyWeek(folder);
      const words = ['exec', '/dev/fd/7', 'thursday', 'p1', '--', 'ls', 'notes.txt'];
      expect(run(DIRECTLY, folder, ...words)).toEqual({ status: 0, stdout: 'notes.txt\n', stderr: '' });
    }));

  test('as a backing file', () =>
    withPlace(async ({ folder, mountpoint }) => {
      const image = copyWeek(folder);
      tryCommand('qemu-img', [
        'create',
        '-q',
        '-u',
        '-f',
        'qcow2',
        '-b',
        'gone',
        '-F',
        'qcow2',
        `${folder}/top`,
        '24M',
      ]);
      const words = ['mount', '--backing', '/dev/fd/7', `${folder}/top`, mountpoint];
      expect(run(DIRECTLY, folder, ...words)).toEqual({ status: 0, stdout: '', stderr: '' });
      const [current] = trueStates(image, folder);
      expect(sha256OfFile(`${mountpoint}/current/disk.raw`)).toBe(sha256OfFile(current?.rawPath ?? ''));
      expect(tryCommand(QCOW2FS, ['umount', mountpoint]).status).toBe(0);
    }));

  test.each([
    ['a file that was deleted', DELETED, '/dev/fd/7', /^qcow2fs: \/dev\/fd\/7 is a descriptor of this process alone: /],
    ['a pipe', PIPED, '/dev/stdin', /^qcow2fs: \/dev\/stdin is a descriptor of this process alone: name the file\n$/],
    ['nothing', DIRECTLY, '/dev/fd/99', /^qcow2fs: \/dev\/fd\/99: no such file\n$/],
  ])('not of %s', (_, script, name, message) =>
    withPlace(async ({ folder, mountpoint }) => {
      copyWeek(folder);
      const { status, stdout, stderr } = run(script, folder, 'mount', name, mountpoint);
      expect([status, stdout, stderr]).toEqual([1, '', expect.stringMatching(message)]);
      expect(isMountpoint(mountpoint)).toBe(false);
    }),
  );
});

describe('names through processes', () => {
  test('other names lead through none', () =>
    withTemporaryFolder((folder) => {
      fs.symlinkSync('loop', `${folder}/loop`);
      fs.symlinkSync(folder, `${folder}/link`);
      for (const name of [
        '.',
        folder,
        `${folder}/link/link`,
        `${folder}/loop`,
        `${folder}/gone/x`,
        '/proc/version',
        '/',
      ]) {
        expect(findProcessName(name), name).toBe(undefined);
      }
    }));

  test('a file that has the name by now is another one', () =>
    withTemporaryFolder((folder) => {
      const file = `${folder}/file`;
      fs.writeFileSync(file, 'old');
      const fd = fs.openSync(file, 'r');
      try {
        expect(findProcessName(`/proc/self/fd/${fd}`)).toEqual({ lasting: file, isOwn: true });
        fs.rmSync(file);
        fs.writeFileSync(`${file} (deleted)`, 'new');
        expect(findProcessName(`/dev/fd/${fd}`)).toEqual({ lasting: undefined, isOwn: true });
      } finally {
        fs.closeSync(fd);
      }
    }));

  test('what belongs to another process is not ours', async () => {
    const child = spawn('sleep', ['60'], { stdio: 'ignore' });
    try {
      expect(findProcessName(`/proc/${child.pid}/root/etc/passwd`)).toEqual({ lasting: '/etc/passwd', isOwn: false });
    } finally {
      child.kill('SIGKILL');
    }
  });
});
