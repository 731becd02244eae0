/** `qcow2fs exec` of a user who is not root, from an installed package. */

import fs from 'node:fs';
import tmp from 'tmp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { weekImagePath } from '../../src/demo/week.ts';
import { DIRTY_FILE_SYSTEMS, makeDirtyImage } from '../scratch/dirty-image.ts';
import { asOrdinaryUser } from '../support/ordinary-user.ts';
import { type CommandResult, runCommand, tryCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { installForUsers, type UserPlace, withUserPlace } from '../support/user-place.ts';
import { expectNothingLeft, whileUnchanged } from './exec-place.ts';

/** All that it needs but fuse2fs. */
const PROGRAMS = ['dirname', 'ls', 'mount', 'nsenter', 'readlink', 'setpriv', 'sh', 'umount', 'unshare'];

const folder = tmp.dirSync({ prefix: 'qcow2fs-user-', unsafeCleanup: true, mode: 0o755 });
let launcher: string;

beforeAll(() => {
  launcher = installForUsers(`${folder.name}/package`);
});

afterAll(() => folder.removeCallback());

type Exec = (words: readonly string[], env?: readonly string[], prefix?: readonly string[]) => CommandResult;

/** Runs `body` with an image of the user; nothing is left afterwards. */
function withUserExec(
  makeImage: (path: string) => void,
  body: (exec: Exec, place: UserPlace) => void | Promise<void>,
): Promise<void> {
  return withUserPlace(makeImage, async (place) => {
    const exec: Exec = (words, env = [], prefix = []) => {
      const command = [...prefix, ...asOrdinaryUser(), 'env', `TMPDIR=${place.mountpoint}`, ...env, launcher, 'exec'];
      return tryCommand(command[0] ?? '', [...command.slice(1), ...words]);
    };
    await whileUnchanged(place.image, () => body(exec, place));
    await expectNothingLeft(place.mountpoint);
    expect(fs.readdirSync(place.mountpoint)).toEqual([]);
  });
}

const copyWeek = (path: string) => fs.copyFileSync(weekImagePath, path);

describe('an ordinary user', () => {
  test('runs a command in ext4, whose exit code comes back, and may write', () =>
    withUserExec(copyWeek, (exec, { image }) => {
      const script = 'sqlite3 shop.db "PRAGMA integrity_check" && echo x > new && cat new && id -u && exit 42';
      const result = exec([image, 'thursday', '--', 'sh', '-c', script]);
      expect(result).toEqual({ status: 42, stdout: 'ok\nx\n0\n', stderr: '' });
    }));

  test('who does not own the image, and may read it', () =>
    withUserExec(copyWeek, (exec, { image }) => {
      fs.chownSync(image, 0, 0);
      fs.chmodSync(image, 0o444);
      expect(exec([image, 'thursday', '--', 'cat', 'notes.txt'])).toMatchObject({ status: 0, stderr: '' });
    }));

  test('has a table of each snapshot', () =>
    withUserExec(copyWeek, (exec, { image }) => {
      const { stdout } = exec([image, '--each-snapshot', '--', 'sqlite3', 'shop.db', 'PRAGMA integrity_check']);
      expect(stdout.match(/^[a-z]+ .* 0 +ok$/gm)?.map((line) => line.split(' ')[0])).toEqual([
        ...['monday', 'tuesday', 'wednesday', 'thursday'],
      ]);
    }));

  test('has all that was fsynced in the ext4 of a running machine', () =>
    withTemporaryFolder(async (made) => {
      const [ext4] = DIRTY_FILE_SYSTEMS;
      const { image: source, fileCount } = makeDirtyImage(made, ext4);
      await withUserExec(
        (path) => fs.copyFileSync(source, path),
        (exec, { image }) => {
          const script = 'ls | grep -c "^file"; cat file* | sort -n | uniq -c';
          const { stdout } = exec([image, 'night', '--', 'sh', '-c', script]);
          const [count, ...lines] = stdout.trimEnd().split('\n');
          expect(count).toBe(String(fileCount));
          // Of file N: N + 1 times its number.
          expect(lines.map((line) => line.trim())).toEqual(
            Array.from({ length: fileCount }, (_, index) => `${index + 1} ${index}`),
          );
        },
      );
    }));

  test('is told that other file systems need root', () =>
    withTemporaryFolder(async (made) => {
      const [, xfs] = DIRTY_FILE_SYSTEMS;
      if (xfs === undefined) throw new Error('there is no XFS');
      const { image: source } = makeDirtyImage(made, xfs);
      await withUserExec(
        (path) => fs.copyFileSync(source, path),
        (exec, { image }) => {
          const { status, stderr } = exec([image, 'night', '--', 'true']);
          expect(status).toBe(125);
          expect(stderr).toMatch(/^qcow2fs: disk is xfs, and an ordinary user can mount only [^\n]*run it as root\n$/);
        },
      );
    }));

  test('without fuse2fs is told to install it', () =>
    withUserExec(copyWeek, (exec, { image, folder: place }) => {
      const programs = `${place}/programs`;
      fs.mkdirSync(programs);
      for (const name of PROGRAMS) fs.symlinkSync(runCommand('which', [name]).trim(), `${programs}/${name}`);
      fs.symlinkSync(process.execPath, `${programs}/node`);
      const { status, stderr } = exec([image, 'thursday', '--', 'true'], [`PATH=${programs}`]);
      expect([status, stderr]).toEqual([
        125,
        'qcow2fs: cannot mount p1 (ext4): fuse2fs is missing: `apt install fuse2fs`, or run it as root\n',
      ]);
    }));

  test('where users make no user namespaces is told what to do', () =>
    withUserExec(copyWeek, (exec, { image, folder: place }) => {
      // unshare(2): EPERM in a chroot environment.
      const root = `${place}/root`;
      fs.mkdirSync(root);
      const script = 'mount --rbind / "$0"; exec chroot "$0" "$@"';
      const prefix = ['unshare', '--mount', '--propagation', 'private', 'sh', '-euc', script, root];
      const { status, stdout, stderr } = exec([image, 'thursday', '--', 'true'], [], prefix);
      expect([status, stdout]).toEqual([125, '']);
      expect(stderr).toMatch(
        /^qcow2fs: no namespaces for the command can be made: [^\n]*run it as root, or let users [^\n]*\n$/,
      );
    }));
});
