import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { findDaemons } from '../../src/daemon/find-daemons.ts';
import { mountInBackground } from '../../src/daemon/start-daemon.ts';
import { unmount } from '../../src/daemon/stop-mount.ts';
import { QCOW2FS } from '../support/mounted-image.ts';
import { tryCommand } from '../support/run-command.ts';
import {
  daemonOf,
  isMountpoint,
  makeImage,
  mountImage,
  mountTestFiles,
  REAL_DAEMON,
  rejectionOf,
  waitUntil,
  withPlace,
} from './mounting.ts';

test('a mountpoint that does not exist is refused, with how to make it', () =>
  withPlace(async ({ folder }) => {
    const mountpoint = path.join(folder, 'nothing');
    const { code, message } = await rejectionOf(mountTestFiles(mountpoint));
    expect(code).toBe('MOUNT');
    expect(message).toBe(`cannot mount on ${mountpoint}: it does not exist; create it with \`mkdir ${mountpoint}\``);
  }));

test('a mountpoint that is a file is refused', () =>
  withPlace(async ({ folder }) => {
    const mountpoint = path.join(folder, 'file');
    fs.writeFileSync(mountpoint, '');
    expect((await rejectionOf(mountTestFiles(mountpoint))).message).toContain('it is not a directory');
  }));

test('a mountpoint that hides the image is refused', () =>
  withPlace(async (place) => {
    const image = makeImage(place.mountpoint);
    const mounting = mountInBackground({ imagePath: image, mountpoint: place.mountpoint, directIo: false });
    expect((await rejectionOf(mounting)).message).toContain('lies in it');
    const fromRoot = mountInBackground({ imagePath: image, mountpoint: '/', directIo: false });
    expect((await rejectionOf(fromRoot)).code).toBe('MOUNT');
  }));

test('a mountpoint that hides the program is refused', async () => {
  const folder = path.resolve(import.meta.dirname, '../../src');
  expect((await rejectionOf(mountTestFiles(folder))).message).toContain('this program lies in it');
});

test('a mountpoint need not be empty', () =>
  withPlace(async (place) => {
    fs.writeFileSync(path.join(place.mountpoint, 'hidden'), '');
    await mountImage(place);
    await unmount(place.mountpoint);
    expect(fs.readdirSync(place.mountpoint)).toEqual(['hidden']);
  }));

test('a second mount on the same directory is refused and names the first', () =>
  withPlace(async (place) => {
    const imagePath = await mountImage(place);
    const { code, message } = await rejectionOf(mountTestFiles(place.mountpoint));
    expect(code).toBe('MOUNT');
    expect(message).toContain(`${imagePath} is mounted there already`);
    expect(message).toContain('qcow2fs umount');
  }));

test('a mountpoint of something else is refused', async () => {
  expect((await rejectionOf(mountTestFiles('/proc'))).message).toContain('something (proc) is mounted there already');
});

test('what is wrong with the image is told, and nothing is mounted', () =>
  withPlace(async ({ folder, mountpoint }) => {
    const imagePath = path.join(folder, 'text');
    fs.writeFileSync(imagePath, 'x'.repeat(4096));
    const mounting = mountInBackground({ imagePath, mountpoint, directIo: false }, { daemonEntry: REAL_DAEMON });
    const { code, message } = await rejectionOf(mounting);
    expect(code).toBe('NOT_QCOW2');
    expect(message).toContain(imagePath);
    expect(isMountpoint(mountpoint)).toBe(false);
    await waitUntil(() => findDaemons(mountpoint).length === 0);
  }));

test.each([
  ['dies-at-start', 'MOUNT', 'the daemon ended before the mount could be used'],
  ['no-file-system', 'DAMAGED', '/images/no-file-system: nothing to serve'],
  ['mountpoint-vanishes', 'MOUNT', 'mount point does not exist'],
  ['bad-worker', 'INTERNAL', 'a worker thread ended before the mount was ready'],
])('a daemon that fails before the mount leaves nothing behind: %s', (image, code, message) =>
  withPlace(async ({ mountpoint }) => {
    const error = await rejectionOf(mountTestFiles(mountpoint, { imagePath: `/images/${image}` }));
    expect(error.code).toBe(code);
    expect(error.message).toContain(message);
    expect(isMountpoint(mountpoint)).toBe(false);
    await waitUntil(() => findDaemons(mountpoint).length === 0);
  }),
);

test('a log file that cannot be written is refused', () =>
  withPlace(async ({ folder, mountpoint }) => {
    const logFile = path.join(folder, 'nothing', 'log');
    const { code, message } = await rejectionOf(mountTestFiles(mountpoint, { logFile }));
    expect(code).toBe('IO');
    expect(message).toContain(logFile);
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

test('unmounting something else is refused', async () => {
  const { code, message } = await rejectionOf(unmount('/proc'));
  expect(code).toBe('MOUNT');
  expect(message).toContain('not a qcow2 image but proc');
});

/** The watchdog is a child of the daemon. */
function killWatchdogOf(daemon: number): void {
  const children = fs.readFileSync(`/proc/${daemon}/task/${daemon}/children`, 'utf8').trim().split(' ').map(Number);
  expect(children.length).toBe(1);
  for (const child of children) process.kill(child, 'SIGKILL');
}
