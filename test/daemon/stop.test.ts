import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import fs from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { findDaemons } from '../../src/daemon/find-daemons.ts';
import { describeMountUsers } from '../../src/daemon/mount-users.ts';
import { mountInBackground } from '../../src/daemon/start-daemon.ts';
import { unmount } from '../../src/daemon/stop-mount.ts';
import { findMount, type Mount } from '../../src/fuse/mountinfo.ts';
import { runCommand, tryCommand } from '../support/run-command.ts';
import {
  BACKGROUND_SCRIPT,
  daemonOf,
  FOREGROUND_SCRIPT,
  isMountpoint,
  mountTestFiles,
  REAL_DAEMON,
  rejectionOf,
  TEST_DAEMON,
  waitUntil,
  waitUntilGone,
  withPlace,
} from './mounting.ts';

/** Of a request after the end of the connection, or during it; EIO if its worker was ended a moment before the others. */
const DEAD = /ENOTCONN|ECONNABORTED|EIO/;

test.each(['SIGTERM', 'SIGINT', 'SIGHUP'] as const)('%s unmounts and ends the daemon', (signal) =>
  withPlace(async ({ mountpoint }) => {
    await mountTestFiles(mountpoint);
    process.kill(daemonOf(mountpoint), signal);
    await waitUntilGone(mountpoint);
  }),
);

test('the mount of a daemon that was killed with SIGKILL is removed', () =>
  withPlace(async ({ mountpoint }) => {
    await mountTestFiles(mountpoint);
    process.kill(daemonOf(mountpoint), 'SIGKILL');
    await waitUntilGone(mountpoint);
  }, 'blank \\ and tab\t'));

test('the watchdog of a killed daemon leaves a newer mount alone', () =>
  withPlace(async ({ mountpoint }) => {
    await mountTestFiles(mountpoint);
    const pid = daemonOf(mountpoint);
    // Newer and on top.
    runCommand('mount', ['-t', 'tmpfs', 'newer', mountpoint]);
    const watchdog = (await fs.readFile(`/proc/${pid}/task/${pid}/children`, 'utf8')).trim();
    process.kill(pid, 'SIGKILL');
    await waitUntil(() => !isRunning(Number(watchdog)));
    expect(findMount(mountpoint)?.fsType).toBe('tmpfs');
    runCommand('umount', [mountpoint]);
  }));

test('unmounting what is in use is refused, says by whom, and changes nothing', () =>
  withPlace(async ({ mountpoint }) => {
    await mountTestFiles(mountpoint);
    const file = await fs.open(path.join(mountpoint, 'data'));
    try {
      const { code, message } = await rejectionOf(unmount(mountpoint));
      expect(code).toBe('MOUNT');
      expect(message).toContain(`cannot unmount ${mountpoint}: it is in use by process ${process.pid} (`);
      expect(isMountpoint(mountpoint)).toBe(true);
      expect((await file.read(Buffer.alloc(10), 0, 10, 0)).bytesRead).toBe(10);
    } finally {
      await file.close();
    }
    await unmount(mountpoint);
  }));

test('every kind of user of a busy mount is named', () =>
  withPlace(async ({ folder, mountpoint }) => {
    const imagePath = path.join(folder, 'program.qcow2');
    runCommand('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', '/bin/sleep', imagePath]);
    await mountInBackground({ imagePaths: [imagePath], mountpoint, directIo: false }, { daemonEntry: REAL_DAEMON });
    const file = path.join(mountpoint, 'current/disk.raw');
    const undo: (() => unknown)[] = [];
    try {
      const inFolder = spawn('sleep', ['100'], { cwd: mountpoint });
      undo.push(() => inFolder.kill());
      const device = runCommand('losetup', ['-r', '-f', '--show', file]).trim();
      undo.push(() => runCommand('losetup', ['-d', device]));
      const mapped = spawn(await dynamicLoader(), [file, '100']);
      undo.push(() => mapped.kill());
      await waitUntil(() => readFileSync(`/proc/${mapped.pid}/maps`, 'utf8').includes(file));
      const users = (await describeMountUsers(mountAt(mountpoint))).split(', ');
      expect(users[0]).toBe(`loop device ${device}`);
      expect(users.slice(1).sort()).toEqual(
        [
          `process ${inFolder.pid} (sleep)`,
          `process ${mapped.pid} (${path.basename(await dynamicLoader()).slice(0, 15)})`,
        ].sort(),
      );
    } finally {
      for (const action of undo.reverse()) action();
    }
    await waitUntil(() => tryCommand('umount', [mountpoint]).status === 0);
    await waitUntilGone(mountpoint);
  }));

test('a mount whose daemon was stopped with SIGSTOP can be removed', () =>
  withPlace(async ({ mountpoint }) => {
    await mountTestFiles(mountpoint);
    const pid = daemonOf(mountpoint);
    process.kill(pid, 'SIGSTOP');
    try {
      const removal = unmount(mountpoint);
      await waitUntil(() => !isMountpoint(mountpoint));
      process.kill(pid, 'SIGCONT');
      await removal;
    } finally {
      if (isRunning(pid)) process.kill(pid, 'SIGCONT');
    }
    await waitUntilGone(mountpoint);
  }));

test('a daemon that stops while its mount is busy says who uses it', () =>
  withPlace(async ({ folder, mountpoint }) => {
    const logFile = path.join(folder, 'log');
    await mountTestFiles(mountpoint, { logFile });
    const sleeper = spawn('sleep', ['100'], { cwd: mountpoint });
    await once(sleeper, 'spawn');
    process.kill(daemonOf(mountpoint), 'SIGTERM');
    await waitUntil(() => !isMountpoint(mountpoint));
    expect(await fs.readFile(logFile, 'utf8')).toContain(
      `qcow2fs: ${mountpoint} is still in use (process ${sleeper.pid} (sleep)): it is detached`,
    );
    sleeper.kill();
    await waitUntilGone(mountpoint);
  }));

test('a stopped daemon serves an open file until it is closed', () =>
  withPlace(async ({ mountpoint }) => {
    await mountTestFiles(mountpoint, { directIo: true });
    const file = await fs.open(path.join(mountpoint, 'data'));
    process.kill(daemonOf(mountpoint), 'SIGTERM');
    await waitUntil(() => !isMountpoint(mountpoint));
    expect((await file.read(Buffer.alloc(5), 0, 5, 1000)).buffer.toString()).toBe('ddddd');
    await file.close();
    await waitUntilGone(mountpoint);
  }));

test('a second signal ends the daemon although a file is open', () =>
  withPlace(async ({ mountpoint }) => {
    await mountTestFiles(mountpoint, { directIo: true });
    const file = await fs.open(path.join(mountpoint, 'data'));
    try {
      const pid = daemonOf(mountpoint);
      process.kill(pid, 'SIGTERM');
      await waitUntil(() => !isMountpoint(mountpoint));
      process.kill(pid, 'SIGTERM');
      await waitUntilGone(mountpoint);
      await expect(file.read(Buffer.alloc(5), 0, 5, 0)).rejects.toThrow(DEAD);
    } finally {
      await closeDead(file);
    }
  }));

test('an aborted connection ends the daemon, and the dead mount with it', () =>
  withPlace(async ({ folder, mountpoint }) => {
    await mountTestFiles(mountpoint);
    const connections = path.join(folder, 'connections');
    await fs.mkdir(connections);
    runCommand('mount', ['-t', 'fusectl', 'fusectl', connections]);
    try {
      const minor = findMount(mountpoint)?.device.split(':')[1];
      await fs.writeFile(path.join(connections, String(minor), 'abort'), '1');
      await waitUntilGone(mountpoint);
    } finally {
      runCommand('umount', [connections]);
    }
  }));

test('in the foreground the exit code is 0 when the mount ends by umount or by a signal', () =>
  withPlace(async ({ mountpoint }) => {
    const first = await startForeground(mountpoint);
    runCommand('umount', [mountpoint]);
    expect(await exitOf(first)).toBe(0);
    const second = await startForeground(mountpoint);
    second.kill('SIGINT');
    expect(await exitOf(second)).toBe(0);
    await waitUntilGone(mountpoint);
  }));

test('in the foreground a second signal ends it with the code of SIGKILL', () =>
  withPlace(async ({ mountpoint }) => {
    const process = await startForeground(mountpoint);
    const file = await fs.open(path.join(mountpoint, 'data'));
    try {
      process.kill('SIGTERM');
      await waitUntil(() => !isMountpoint(mountpoint));
      process.kill('SIGTERM');
      expect(await exitOf(process)).toBe(128 + 9);
    } finally {
      await closeDead(file);
    }
  }));

test('in the foreground the exit code is 1 when the daemon fails, and the mount is removed', () =>
  withPlace(async ({ mountpoint }) => {
    const foreground = await startForeground(mountpoint);
    // Makes the daemon of the fixture throw in its main thread.
    process.kill(daemonOf(mountpoint), 'SIGUSR2');
    expect(await exitOf(foreground)).toBe(1);
    await waitUntilGone(mountpoint);
  }));

test('a daemon whose starter was killed before the mount was ready does not stay', () =>
  withPlace(async ({ folder, mountpoint }) => {
    // The daemon of the fixture waits until this file exists.
    const imagePath = path.join(folder, 'awaited');
    const starter = spawn(process.execPath, [BACKGROUND_SCRIPT, imagePath, mountpoint, TEST_DAEMON.href]);
    await waitUntil(() => findDaemons(mountpoint).length === 1);
    starter.kill('SIGKILL');
    await exitOf(starter);
    await fs.writeFile(imagePath, '');
    await waitUntilGone(mountpoint);
  }));

test('a daemon in the foreground ends with its starter', () =>
  withPlace(async ({ mountpoint }) => {
    const process = await startForeground(mountpoint);
    process.kill('SIGKILL');
    await waitUntilGone(mountpoint);
  }));

/** Maps the program that it is given and closes the file. */
async function dynamicLoader(): Promise<string> {
  const path = /\S*\/ld-\S+$/m.exec(await fs.readFile('/proc/self/maps', 'utf8'))?.[0];
  if (path === undefined) throw new Error('this program has no dynamic loader');
  return path;
}

function mountAt(mountpoint: string): Mount {
  const mount = findMount(mountpoint);
  if (mount === undefined) throw new Error(`nothing is mounted on ${mountpoint}`);
  return mount;
}

async function startForeground(mountpoint: string): Promise<ChildProcess> {
  const child = spawn(process.execPath, [FOREGROUND_SCRIPT, '/images/test', mountpoint, TEST_DAEMON.href], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  expect(line.toString()).toBe('ready\n');
  expect(findDaemons(mountpoint).length).toBe(1);
  return child;
}

/** close(2) sends FLUSH, which nobody answers. */
async function closeDead(file: fs.FileHandle): Promise<void> {
  await expect(file.close()).rejects.toThrow(DEAD);
}

async function exitOf(child: ChildProcess): Promise<number | null> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  return child.exitCode;
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
