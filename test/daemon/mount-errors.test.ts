import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { findDaemons } from '../../src/daemon/find-daemons.ts';
import type { MountOptions } from '../../src/daemon/mount-options.ts';
import { mountInBackground } from '../../src/daemon/start-daemon.ts';
import { unmount } from '../../src/daemon/stop-mount.ts';
import { sha256OfFile } from '../support/hash.ts';
import { QCOW2FS } from '../support/mounted-image.ts';
import { runCommand, tryCommand } from '../support/run-command.ts';
import {
  daemonOf,
  isMountpoint,
  makeImage,
  mountImage,
  mountTestFiles,
  type Place,
  REAL_DAEMON,
  rejectionOf,
  waitUntil,
  withPlace,
} from './mounting.ts';

/** Makes what is wrong; returns how to mount it, and why that is refused, word for word. */
type Mistake = (place: Place) => {
  readonly mount: Partial<MountOptions>;
  readonly message: string;
};

const MAIN = path.resolve(import.meta.dirname, '../../dist/cli/main.js');
const NAME_ANOTHER_LOG = 'name a file in a folder that exists and that this user may write to';

const MISTAKES: Readonly<Record<string, Mistake>> = {
  'a mountpoint that does not exist': ({ folder }) => {
    const mountpoint = `${folder}/nothing`;
    const reason = `it does not exist; create it with \`mkdir ${mountpoint}\``;
    return { mount: { mountpoint }, message: `cannot mount on ${mountpoint}: ${reason}` };
  },
  'a mountpoint that is a file': ({ folder }) => {
    const mountpoint = `${folder}/file`;
    fs.writeFileSync(mountpoint, '');
    const reason = 'it is not a directory; choose an empty directory';
    return { mount: { mountpoint }, message: `cannot mount on ${mountpoint}: ${reason}` };
  },
  'a mountpoint below a file': ({ folder }) => {
    fs.writeFileSync(`${folder}/file`, '');
    const mountpoint = `${folder}/file/mnt`;
    const reason = `it cannot be used: ENOTDIR: not a directory, stat '${mountpoint}'; choose an empty directory`;
    return { mount: { mountpoint }, message: `cannot mount on ${mountpoint}: ${reason}` };
  },
  'a mountpoint that is not empty': ({ mountpoint }) => {
    fs.writeFileSync(`${mountpoint}/hidden`, '');
    const reason =
      'it is not empty, and the mount would hide what is in it; choose an empty directory, or mount with `-o nonempty`';
    return { mount: {}, message: `cannot mount on ${mountpoint}: ${reason}` };
  },
  'a mountpoint with the image in it': ({ mountpoint }) => {
    const image = makeImage(mountpoint);
    const reason = `the image ${image} lies in it, and the mount would hide it; choose another directory`;
    return { mount: { imagePaths: ['/images/test', image] }, message: `cannot mount on ${mountpoint}: ${reason}` };
  },
  'a mountpoint with the log file in it': ({ mountpoint }) => {
    const logFile = `${mountpoint}/log`;
    const reason = `the log file ${logFile} would lie in it, and the mount would hide it; choose another file`;
    return { mount: { logFile }, message: `cannot mount on ${mountpoint}: ${reason}` };
  },
  'a mountpoint with this program in it': () => {
    const mountpoint = path.resolve(import.meta.dirname, '../../src');
    const reason = 'this program lies in it, and the mount would hide it; choose another directory';
    return { mount: { mountpoint }, message: `cannot mount on ${mountpoint}: ${reason}` };
  },
  'a mountpoint of something else': () => {
    const reason = 'something (proc) is mounted there already; choose another directory';
    return { mount: { mountpoint: '/proc' }, message: `cannot mount on /proc: ${reason}` };
  },
  'a log file in a folder that does not exist': ({ folder }) => {
    const logFile = `${folder}/nothing/log`;
    const reason = `ENOENT: no such file or directory, open '${logFile}'`;
    return { mount: { logFile }, message: `the log file ${logFile} cannot be opened: ${reason}; ${NAME_ANOTHER_LOG}` };
  },
  'a log file that is a directory': ({ folder }) => ({
    mount: { logFile: folder },
    message: `the log file ${folder} is a directory; name a file in it`,
  }),
  'a log file that is a FIFO': ({ folder }) => {
    const logFile = `${folder}/fifo`;
    runCommand('mkfifo', [logFile]);
    return {
      mount: { logFile },
      message: `the log file ${logFile} is no regular file; name one, or one to be created`,
    };
  },
  'a log file that is the image, by another name': ({ folder }) => {
    const image = makeImage(folder);
    const logFile = `${folder}/link`;
    fs.symlinkSync(image, logFile);
    const reason = `is the image ${image}, which is never written to; name another file`;
    return { mount: { imagePaths: [image], logFile }, message: `the log file ${logFile} ${reason}` };
  },
  'a log file that the image stands on': ({ folder }) => {
    const backing = makeImage(folder);
    const image = `${folder}/top.qcow2`;
    runCommand('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', 'disk.qcow2', '-F', 'qcow2', image]);
    const reason = `${image} needs it, and it is never written to; name another file`;
    return {
      mount: { imagePaths: [image], logFile: backing },
      message: `the log file is ${backing}: ${reason}`,
    };
  },
  'an image that does not exist': ({ folder }) => {
    const image = `${folder}/nothing.qcow2`;
    return { mount: { imagePaths: [image] }, message: `${image}: no such file` };
  },
  'an image that is a directory': ({ folder }) => ({
    mount: { imagePaths: [folder] },
    message: `${folder} is neither a regular file nor a block device`,
  }),
  'an image that is none': ({ folder }) => {
    const image = `${folder}/text`;
    fs.writeFileSync(image, 'x'.repeat(4096));
    return {
      mount: { imagePaths: [image] },
      message: `${image} is not a qcow2 image: it does not start with "QFI\\xfb"`,
    };
  },
};

test.each(Object.entries(MISTAKES))('%s is refused, with what to do, and nothing is mounted', (_, makeMistake) =>
  withPlace(async (place) => {
    const { mount, message } = makeMistake(place);
    const options = { imagePaths: [], mountpoint: place.mountpoint, directIo: false, ...mount };
    const digests = options.imagePaths.filter(isFile).map(sha256OfFile);
    const error = await rejectionOf(mountInBackground(options, { daemonEntry: REAL_DAEMON }));
    expect(error.message).toBe(message);
    expect(['MOUNT', 'IO', 'REFUSED', 'NOT_FOUND', 'NOT_QCOW2']).toContain(error.code);
    expect(isMountpoint(place.mountpoint)).toBe(false);
    expect(options.imagePaths.filter(isFile).map(sha256OfFile)).toEqual(digests);
    await waitUntil(() => findDaemons(place.mountpoint).length === 0);
  }),
);

test('an image that this user may not read is refused, with what to do', () =>
  withPlace(async ({ folder }) => {
    const image = makeImage(folder);
    fs.chmodSync(image, 0o600);
    const asOther = ['--reuid=65534', '--regid=65534', '--clear-groups', process.execPath];
    const { status, stderr } = tryCommand('setpriv', [...asOther, MAIN, 'list', image]);
    expect(stderr).toBe(`qcow2fs: ${image}: permission denied: run as a user who may read it, such as root\n`);
    expect(status).toBe(1);
  }));

test('a mountpoint may have something in it if the user says so', () =>
  withPlace(async (place) => {
    fs.writeFileSync(path.join(place.mountpoint, 'hidden'), '');
    await mountImage(place, { isNonEmptyAllowed: true });
    await unmount(place.mountpoint);
    expect(fs.readdirSync(place.mountpoint)).toEqual(['hidden']);
  }));

test('a second mount on the same directory is refused and names the first', () =>
  withPlace(async (place) => {
    const { mountpoint } = place;
    const imagePath = await mountImage(place);
    const { code, message } = await rejectionOf(mountTestFiles(mountpoint));
    expect(code).toBe('MOUNT');
    expect(message).toBe(
      `cannot mount on ${mountpoint}: ${imagePath} is mounted there already; unmount it with \`qcow2fs umount ${mountpoint}\``,
    );
  }));

test.each([
  ['dies-at-start', 'MOUNT', 'the daemon ended before the mount could be used'],
  ['no-file-system', 'DAMAGED', '/images/no-file-system: nothing to serve'],
  ['mountpoint-vanishes', 'MOUNT', 'mount point does not exist'],
  ['bad-worker', 'INTERNAL', 'a worker thread ended before the mount was ready'],
])('a daemon that fails before the mount leaves nothing behind: %s', (image, code, message) =>
  withPlace(async ({ mountpoint }) => {
    const error = await rejectionOf(mountTestFiles(mountpoint, { imagePaths: [`/images/${image}`] }));
    expect(error.code).toBe(code);
    expect(error.message).toContain(message);
    expect(isMountpoint(mountpoint)).toBe(false);
    await waitUntil(() => findDaemons(mountpoint).length === 0);
  }),
);

test('where too few files may be open for all threads, that is what is said', () =>
  withPlace(async ({ folder, mountpoint }) => {
    const image = makeImage(folder);
    const limited = (limit: number, ...words: readonly string[]) => {
      const script = 'ulimit -n "$0"; exec "$@"';
      return tryCommand('sh', ['-c', script, `${limit}`, QCOW2FS, ...words], { env: { TMPDIR: folder } });
    };
    const limits = Array.from({ length: 12 }, (_, index) => 29 + index);
    const failed = limits.flatMap((limit) => {
      const { status, stderr } = limited(limit, 'mount', image, mountpoint);
      if (status === 0) tryCommand(QCOW2FS, ['umount', mountpoint]);
      return status === 0 ? [] : [{ limit, status, stderr }];
    });
    for (const { status, stderr } of failed) {
      expect([status, stderr]).toEqual([1, expect.stringMatching(/^qcow2fs: [^\n]*\n$/)]);
      expect(stderr).not.toContain('internal error');
    }
    const told = failed.filter(({ stderr }) => stderr.includes('too many files are open (ulimit -n and'));
    expect(told).not.toEqual([]);
    const { status, stderr } = limited(told[0]?.limit ?? 0, 'exec', image, 'monday', '--', 'true');
    expect([status, stderr]).toEqual([125, expect.stringMatching(/^qcow2fs: [^\n]*too many files are open[^\n]*\n$/)]);
    expect(fs.readdirSync(folder).filter((name) => name.startsWith('qcow2fs-'))).toEqual([]);
  }));

test('a mount whose daemon is dead is replaced', () =>
  withPlace(async (place) => {
    await mountTestFiles(place.mountpoint);
    const pid = daemonOf(place.mountpoint);
    killWatchdogOf(pid);
    process.kill(pid, 'SIGKILL');
    await waitUntil(() => findDaemons(place.mountpoint).length === 0);
    expect(isMountpoint(place.mountpoint)).toBe(true);
    await mountImage(place);
    expect(fs.readdirSync(place.mountpoint)).toContain('current');
  }));

test('unmounting removes a mount whose daemon is dead', () =>
  withPlace(async ({ mountpoint }) => {
    await mountTestFiles(mountpoint);
    const pid = daemonOf(mountpoint);
    killWatchdogOf(pid);
    process.kill(pid, 'SIGKILL');
    await waitUntil(() => findDaemons(mountpoint).length === 0);
    await unmount(mountpoint);
    expect(isMountpoint(mountpoint)).toBe(false);
  }));

test('unmounting what is not mounted is no error, so that it can be done twice', () =>
  withPlace(async ({ mountpoint }) => {
    const { status, stderr } = tryCommand(QCOW2FS, ['umount', mountpoint]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: `qcow2fs: nothing is mounted on ${mountpoint}\n` });
  }));

test('unmounting a directory that does not exist is refused', () =>
  withPlace(async ({ folder }) => {
    const mountpoint = path.join(folder, 'nothing');
    const { code, message } = await rejectionOf(unmount(mountpoint));
    expect(code).toBe('MOUNT');
    expect(message).toBe(`cannot unmount ${mountpoint}: there is no such directory`);
  }));

test('unmounting the image in place of the mountpoint is refused', () =>
  withPlace(async ({ folder }) => {
    const image = makeImage(folder);
    const { code, message } = await rejectionOf(unmount(image));
    expect(code).toBe('MOUNT');
    expect(message).toBe(`cannot unmount ${image}: it is not a directory; name the mountpoint`);
  }));

test('unmounting something else is refused', async () => {
  const { code, message } = await rejectionOf(unmount('/proc'));
  expect(code).toBe('MOUNT');
  expect(message).toContain('not a qcow2 image but proc');
});

function isFile(name: string): boolean {
  return fs.statSync(name, { throwIfNoEntry: false })?.isFile() === true;
}

/** The watchdog is a child of the daemon. */
function killWatchdogOf(daemon: number): void {
  const children = fs.readFileSync(`/proc/${daemon}/task/${daemon}/children`, 'utf8').trim().split(' ').map(Number);
  expect(children.length).toBe(1);
  for (const child of children) process.kill(child, 'SIGKILL');
}
