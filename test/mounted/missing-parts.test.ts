/** What a user is told where mounting cannot work, word for word. Parts are hidden in a mount namespace of the test. */

import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import tmp from 'tmp';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { QCOW2FS } from '../support/mounted-image.ts';
import { asOrdinaryUser, runAsOrdinaryUser, tryAsOrdinaryUser } from '../support/ordinary-user.ts';
import { type CommandResult, tryCommand } from '../support/run-command.ts';
import { installForUsers, type UserPlace, withUserPlace } from '../support/user-place.ts';

const IMAGE = fileURLToPath(new URL('../../src/demo/week.qcow2', import.meta.url));

const WITHOUT_DEVICE = 'mount -t tmpfs -o mode=755 none /dev && mknod -m 666 /dev/null c 1 3';
/** Something that nobody can execute. */
const WITHOUT_FUSERMOUNT = 'mount --bind /dev/null "$(readlink -f /usr/bin/fusermount3)"';
const WITHOUT_CONFIGURATION = 'mount --bind /dev/null /etc/fuse.conf';

const folder = tmp.dirSync({ prefix: 'qcow2fs-missing-', unsafeCleanup: true, mode: 0o755 });
const packageFolder = path.join(folder.name, 'package');
let launcher: string;

beforeAll(() => {
  launcher = installForUsers(packageFolder);
});

afterAll(() => folder.removeCallback());

function withPlace(body: (place: UserPlace) => void): Promise<void> {
  return withUserPlace((image) => fs.copyFileSync(IMAGE, image), body);
}

/** Runs the command where `preparation`, a shell command, was done by root for it alone. */
function tryWhere(preparation: string, command: readonly string[]): CommandResult {
  const script = `${preparation} && exec "$@"`;
  return tryCommand('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', script, 'sh', ...command]);
}

function failure(message: string): CommandResult {
  return { status: 1, stdout: '', stderr: `qcow2fs: ${message}\n` };
}

test('without /dev/fuse, for root and for an ordinary user', () =>
  withPlace(({ image, mountpoint }) => {
    const message =
      '/dev/fuse is missing: load the kernel module with `modprobe fuse` as root, or give the container `--device /dev/fuse`';
    const args = ['mount', image, mountpoint];
    expect(tryWhere(WITHOUT_DEVICE, [QCOW2FS, ...args])).toEqual(failure(message));
    expect(tryWhere(WITHOUT_DEVICE, [...asOrdinaryUser(), launcher, ...args])).toEqual(failure(message));
  }));

test('without fusermount3', () =>
  withPlace(({ image, mountpoint }) => {
    const command = [...asOrdinaryUser(), launcher, 'mount', image, mountpoint];
    expect(tryWhere(WITHOUT_FUSERMOUNT, command)).toEqual(
      failure(
        'an ordinary user mounts and unmounts through fusermount3, which is not installed: install it with ' +
          '`apt install fuse3`, or run as root',
      ),
    );
  }));

test('with a device that only root may open', () =>
  withPlace(({ image, mountpoint }) => {
    const hidden = 'mknod -m 600 "$0.fuse" c 10 229 && mount --bind "$0.fuse" /dev/fuse';
    const preparation = hidden.replaceAll('$0', path.join(folder.name, 'device'));
    const result = tryWhere(preparation, [...asOrdinaryUser(), launcher, 'mount', image, mountpoint]);
    expect(result).toEqual(
      failure(
        `cannot mount on ${mountpoint}: only root may open /dev/fuse: run \`chmod 0666 /dev/fuse\` as root, ` +
          `which is its usual mode`,
      ),
    );
  }));

test('allow_other without user_allow_other', () =>
  withPlace(({ image, mountpoint }) => {
    const module = pathToFileURL(path.join(packageFolder, 'dist/fuse/mounter.js')).href;
    const script = `
      const { openMounter } = await import('${module}');
      const options = { allowOther: true, extra: [], source: '${image}' };
      await openMounter().mount('${mountpoint}', options).catch(({ message }) => console.log(message));`;
    const command = [...asOrdinaryUser(), process.execPath, '--input-type=module', '--eval', script];
    expect(tryWhere(WITHOUT_CONFIGURATION, command).stdout).toBe(
      `cannot mount on ${mountpoint}: allow_other lets other users in, which only root may do unless /etc/fuse.conf has ` +
        `the line \`user_allow_other\`: add it as root, or mount without allow_other\n`,
    );
  }));

test('a mountpoint that the user may not write to', () =>
  withPlace(({ folder: userFolder, image }) => {
    const mountpoint = path.join(userFolder, 'of-root');
    fs.mkdirSync(mountpoint);
    expect(tryAsOrdinaryUser([launcher, 'mount', image, mountpoint])).toEqual(
      failure(
        `cannot mount on ${mountpoint}: as an ordinary user you can mount only on a directory that you may write to; ` +
          `choose or create one of your own`,
      ),
    );
  }));

test('a sticky mountpoint of somebody else', () =>
  withPlace(({ folder: userFolder, image }) => {
    const mountpoint = path.join(userFolder, 'sticky');
    fs.mkdirSync(mountpoint);
    fs.chmodSync(mountpoint, 0o1777);
    expect(tryAsOrdinaryUser([launcher, 'mount', image, mountpoint])).toEqual(
      failure(
        `cannot mount on ${mountpoint}: as an ordinary user you can mount only on a directory that you may write to and, ` +
          `as it is sticky, own; choose or create one of your own`,
      ),
    );
  }));

test('without koffi an ordinary user is told how to get it, and root does not need it', () =>
  withPlace(({ image, mountpoint }) => {
    for (const name of ['koffi', '@koromix']) {
      fs.renameSync(path.join(packageFolder, 'node_modules', name), path.join(folder.name, name));
    }
    expect(tryAsOrdinaryUser([launcher, 'mount', image, mountpoint])).toEqual(
      failure(
        "mounting as an ordinary user takes the npm package koffi, which cannot be loaded (Cannot find module 'koffi'): " +
          `install it with \`npm install --include=optional --prefix ${packageFolder}\`, or run as root`,
      ),
    );
    expect(tryCommand(launcher, ['mount', image, mountpoint]).status).toBe(0);
    expect(fs.readdirSync(mountpoint)).toContain('snapshots');
    expect(tryCommand(launcher, ['umount', mountpoint]).status).toBe(0);
    for (const name of ['koffi', '@koromix']) {
      fs.renameSync(path.join(folder.name, name), path.join(packageFolder, 'node_modules', name));
    }
    runAsOrdinaryUser([launcher, 'mount', image, mountpoint]);
    runAsOrdinaryUser([launcher, 'umount', mountpoint]);
  }));
