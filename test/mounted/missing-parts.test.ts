/** What a user is told where mounting cannot work, word for word. Parts are hidden in a mount namespace of the test. */

import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import tmp from 'tmp';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { QCOW2FS } from '../support/mounted-image.ts';
import { asOrdinaryUser, runAsOrdinaryUser, tryAsOrdinaryUser } from '../support/ordinary-user.ts';
import { type CommandResult, runCommand, tryCommand } from '../support/run-command.ts';
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
    for (const transport of ['auto', 'kernel', 'fuse-native']) {
      const args = ['mount', '--transport', transport, image, mountpoint];
      expect(tryWhere(WITHOUT_DEVICE, [QCOW2FS, ...args])).toEqual(failure(message));
      expect(tryWhere(WITHOUT_DEVICE, [...asOrdinaryUser(), launcher, ...args])).toEqual(failure(message));
    }
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

test.each(['kernel', 'fuse-native'])('allow_other without user_allow_other, through %s', (transport) =>
  withPlace(({ image, mountpoint }) => {
    const args = ['mount', '--transport', transport, '-o', 'allow_other', image, mountpoint];
    expect(tryWhere(WITHOUT_CONFIGURATION, [...asOrdinaryUser(), launcher, ...args])).toEqual(
      failure(
        `cannot mount on ${mountpoint}: allow_other lets other users in, which only root may do unless /etc/fuse.conf has ` +
          `the line \`user_allow_other\`: add it as root, or mount without allow_other`,
      ),
    );
  }),
);

test.each(['kernel', 'fuse-native'])('allow_other with user_allow_other, through %s', (transport) =>
  withPlace(({ folder: userFolder, image, mountpoint }) => {
    fs.writeFileSync(path.join(userFolder, 'fuse.conf'), ' user_allow_other # for all\n');
    const preparation = `mount --bind ${path.join(userFolder, 'fuse.conf')} /etc/fuse.conf`;
    const script = `"$0" mount --transport ${transport} -o allow_other ${image} ${mountpoint} && ls ${mountpoint} && "$0" umount ${mountpoint}`;
    const { status, stdout } = tryWhere(preparation, [...asOrdinaryUser(), 'sh', '-c', script, launcher]);
    expect({ status, names: stdout.split('\n') }).toEqual({ status: 0, names: expect.arrayContaining(['snapshots']) });
  }),
);

test('an option that fusermount3 does not know', () =>
  withPlace(({ image, mountpoint }) => {
    // A stand-in for one of any version, as later ones may know more options.
    const tools = path.join(path.dirname(mountpoint), 'tools');
    fs.mkdirSync(tools);
    const script = '#!/bin/sh\necho "$0: unknown option \'nosymfollow\'" >&2\nexit 1\n';
    fs.writeFileSync(path.join(tools, 'fusermount3'), script, { mode: 0o755 });
    const command = ['/usr/bin/env', `PATH=${tools}:${process.env.PATH}`, launcher, 'mount', image, mountpoint];
    expect(tryAsOrdinaryUser([...command, '-o', 'nosymfollow'])).toEqual(
      failure(
        `cannot mount on ${mountpoint}: fusermount3 does not know one of the options, as \`nosymfollow\` and ` +
          `\`symfollow\`: leave it out, or mount as root`,
      ),
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

/** Runs `body` while these packages are away. */
function withoutPackages(names: readonly string[], body: () => void): void {
  const move = (from: string, to: string) => {
    for (const name of names) fs.renameSync(path.join(from, name), path.join(to, name));
  };
  const modules = path.join(packageFolder, 'node_modules');
  move(modules, folder.name);
  try {
    body();
  } finally {
    move(folder.name, modules);
  }
}

const KOFFI = ['koffi', '@koromix'];
const INSTALL = `\`npm install --omit=dev --include=optional --ignore-scripts --prefix ${packageFolder}\``;
const KOFFI_IS_MISSING =
  "mounting as an ordinary user takes the npm package koffi, which cannot be loaded (Cannot find module 'koffi'): " +
  `install it with ${INSTALL}, or run as root`;
const FUSE_NATIVE_IS_MISSING = `the npm package fuse-native cannot be loaded (Cannot find module 'fuse-native'): install it with ${INSTALL}`;

/** Mounts, looks, unmounts. Returns what is in the log. */
function mountOnce({ image, mountpoint, folder: userFolder }: UserPlace, user: 'root' | 'ordinary'): string {
  const run = user === 'root' ? (command: readonly string[]) => runCommand('env', command) : runAsOrdinaryUser;
  const log = path.join(userFolder, `log of ${user}`);
  run([launcher, 'mount', '--log-file', log, image, mountpoint]);
  expect(run(['ls', mountpoint]).split('\n')).toContain('snapshots');
  run([launcher, 'umount', mountpoint]);
  return fs.readFileSync(log, 'utf8');
}

/** More reads than it takes until a thread looks for koffi, past the page cache; with the bytes that QEMU reads. */
function readOften({ image, mountpoint, folder: userFolder }: UserPlace): void {
  const expected = path.join(userFolder, 'expected.raw');
  const copy = path.join(userFolder, 'copy.raw');
  runCommand('qemu-img', ['convert', '-U', '-O', 'raw', image, expected]);
  runCommand(launcher, ['mount', image, mountpoint]);
  const disk = path.join(mountpoint, 'current/disk.raw');
  runCommand('dd', [`if=${disk}`, `of=${copy}`, 'bs=4k', 'iflag=direct', 'status=none']);
  runCommand('cmp', [expected, copy]);
  runCommand(launcher, ['umount', mountpoint]);
}

test('without koffi an ordinary user gets fuse-native, and the log says why and what is lost', () =>
  withPlace((place) => {
    withoutPackages(KOFFI, () => {
      expect(mountOnce(place, 'ordinary')).toBe(
        `qcow2fs: serving through fuse-native, without SEEK_HOLE and the page cache, and with requests of 128 KiB at most: ` +
          `${KOFFI_IS_MISSING}\n`,
      );
      expect(mountOnce(place, 'root')).toBe('');
    });
  }));

test('without koffi an ordinary user who wants the kernel transport is told how to get it', () =>
  withPlace(({ image, mountpoint }) => {
    withoutPackages(KOFFI, () => {
      const result = tryAsOrdinaryUser([launcher, 'mount', '--transport', 'kernel', image, mountpoint]);
      expect(result).toEqual(failure(KOFFI_IS_MISSING));
    });
  }));

test('without fuse-native only who asks for it misses it', () =>
  withPlace((place) => {
    withoutPackages(['fuse-native'], () => {
      expect(mountOnce(place, 'ordinary')).toBe('');
      expect(mountOnce(place, 'root')).toBe('');
      const args = ['mount', '--transport', 'fuse-native', place.image, place.mountpoint];
      expect(tryCommand(launcher, args)).toEqual(failure(FUSE_NATIVE_IS_MISSING));
    });
  }));

test('without any optional package root mounts, and an ordinary user is told of both', () =>
  withPlace((place) => {
    withoutPackages([...KOFFI, 'fuse-native'], () => {
      readOften(place);
      expect(tryAsOrdinaryUser([launcher, 'mount', place.image, place.mountpoint])).toEqual(
        failure(`${KOFFI_IS_MISSING}. Nor is there its substitute: ${FUSE_NATIVE_IS_MISSING}`),
      );
    });
  }));

test('fuse-native without fusermount', () =>
  withPlace(({ folder: userFolder, image, mountpoint }) => {
    const tools = path.join(userFolder, 'tools');
    fs.mkdirSync(tools);
    for (const tool of ['node', 'sh', 'dirname', 'readlink', 'ls']) {
      fs.symlinkSync(runCommand('which', [tool]).trimEnd(), path.join(tools, tool));
    }
    const mount = [launcher, 'mount', '--transport', 'fuse-native', image, mountpoint];
    expect(tryAsOrdinaryUser(['/usr/bin/env', `PATH=${tools}`, ...mount])).toEqual(
      failure(
        'for an ordinary user, fuse-native mounts through a program called fusermount, which is not in PATH: put a link ' +
          'of that name to fusermount3 there, or use `--transport kernel`',
      ),
    );
  }));

test('what keeps both transports from mounting is told once, by the kernel transport', () =>
  withPlace(({ image, mountpoint }) => {
    const command = [...asOrdinaryUser(), launcher, 'mount', '--transport', 'auto', image, mountpoint];
    withoutPackages(KOFFI, () => {
      expect(tryWhere(WITHOUT_DEVICE, command).stderr).toMatch(/^qcow2fs: \/dev\/fuse is missing: .*\n$/);
      expect(tryWhere(WITHOUT_FUSERMOUNT, command).stderr).toMatch(/^qcow2fs: .* fusermount3, .*\n$/);
    });
  }));
