/** Life and death of mounts through fuse-native. */

import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { findDaemons, hasEnded } from '../../src/daemon/find-daemons.ts';
import { unmount } from '../../src/daemon/stop-mount.ts';
import { findMount } from '../../src/fuse/mountinfo.ts';
import { runCommand, tryCommand } from '../support/run-command.ts';
import {
  daemonOf,
  isMountpoint,
  mountImage,
  mountTestFiles,
  rejectionOf,
  waitUntil,
  waitUntilGone,
  withPlace,
} from './mounting.ts';

const NATIVE = { transport: 'fuse-native' } as const;

test('it is a mount of the same type, source and options', () =>
  withPlace(async (place) => {
    const imagePath = await mountImage(place, NATIVE);
    const shown = runCommand('findmnt', ['-n', '-o', 'SOURCE,FSTYPE,OPTIONS', place.mountpoint]).trim().split(/\s+/);
    expect(shown.slice(0, 2)).toEqual([imagePath, 'fuse.qcow2fs']);
    expect(shown[2]?.split(',')).toEqual(expect.arrayContaining(['ro', 'nosuid', 'nodev', 'max_read=262144']));
  }, 'blank, comma \\ ü'));

test('the daemon is gone when unmounting returns, twenty times', () =>
  withPlace(async (place) => {
    for (let round = 0; round < 20; round++) {
      await mountImage(place, NATIVE);
      const pid = daemonOf(place.mountpoint);
      runCommand('sha256sum', [path.join(place.mountpoint, 'current/disk.raw')]);
      await unmount(place.mountpoint);
      expect(hasEnded(pid)).toBe(true);
    }
    expect(isMountpoint(place.mountpoint)).toBe(false);
  }));

test.each(['SIGTERM', 'SIGINT', 'SIGHUP'] as const)('%s unmounts and ends the daemon', (signal) =>
  withPlace(async ({ mountpoint }) => {
    await mountTestFiles(mountpoint, NATIVE);
    process.kill(daemonOf(mountpoint), signal);
    await waitUntilGone(mountpoint);
  }),
);

test('the mount of a daemon that was killed is removed', () =>
  withPlace(async ({ mountpoint }) => {
    await mountTestFiles(mountpoint, NATIVE);
    process.kill(daemonOf(mountpoint), 'SIGKILL');
    await waitUntilGone(mountpoint);
    expect(fs.readdirSync(mountpoint)).toEqual([]);
  }));

test('a stopped daemon serves an open file until it is closed', () =>
  withPlace(async ({ mountpoint }) => {
    await mountTestFiles(mountpoint, NATIVE);
    const pid = daemonOf(mountpoint);
    const fd = fs.openSync(path.join(mountpoint, 'data'), 'r');
    try {
      process.kill(pid, 'SIGTERM');
      await waitUntil(() => !isMountpoint(mountpoint));
      await sleep(200);
      expect(fs.readSync(fd, Buffer.alloc(4096), 0, 4096, 500_000)).toBe(4096);
      expect(hasEnded(pid)).toBe(false);
    } finally {
      fs.closeSync(fd);
    }
    await waitUntil(() => hasEnded(pid));
  }));

test('a second signal ends the daemon although a file is open', () =>
  withPlace(async ({ mountpoint }) => {
    await mountTestFiles(mountpoint, NATIVE);
    const pid = daemonOf(mountpoint);
    const fd = fs.openSync(path.join(mountpoint, 'data'), 'r');
    try {
      process.kill(pid, 'SIGTERM');
      await waitUntil(() => !isMountpoint(mountpoint));
      process.kill(pid, 'SIGTERM');
      await waitUntil(() => hasEnded(pid));
    } finally {
      // It is closed even so: the file system that would be told about it is gone, or goes while it is told.
      expect(() => fs.closeSync(fd)).toThrow(/ENOTCONN|ECONNABORTED/);
    }
  }));

test('an aborted connection ends the daemon, and the dead mount with it', () =>
  withPlace(async ({ folder, mountpoint }) => {
    await mountTestFiles(mountpoint, NATIVE);
    const minor = findMount(mountpoint)?.device.split(':')[1];
    const connections = path.join(folder, 'connections');
    fs.mkdirSync(connections);
    runCommand('mount', ['-t', 'fusectl', 'fusectl', connections]);
    try {
      fs.writeFileSync(path.join(connections, minor ?? '', 'abort'), '1');
    } finally {
      runCommand('umount', [connections]);
    }
    await waitUntilGone(mountpoint);
  }));

test('an attribute that does not fit is ERANGE, and nothing behind it is told', () =>
  withPlace(async (place) => {
    await mountImage(place, NATIVE);
    // getxattr(2) with one byte of room: `monday` has six.
    const script = `
      const libc = require('koffi').load(null);
      const getxattr = libc.func('intptr_t getxattr(const char *, const char *, _Out_ uint8_t *, size_t)');
      const got = getxattr(process.argv[1], 'user.qcow2.name', Buffer.alloc(64), 1);
      console.log(got, require('koffi').errno() === require('koffi').os.errno.ERANGE);`;
    const file = path.join(place.mountpoint, 'snapshots/monday');
    expect(runCommand(process.execPath, ['-e', script, file])).toBe('-1 true\n');
  }));

test('every read that fails has its reason in the log, once', () =>
  withPlace(async ({ folder, mountpoint }) => {
    const logFile = path.join(folder, 'log');
    await mountTestFiles(mountpoint, { ...NATIVE, logFile });
    for (let round = 0; round < 2; round++) {
      expect(tryCommand('cat', [path.join(mountpoint, 'broken')]).stderr).toContain('Input/output error');
    }
    expect(fs.readFileSync(logFile, 'utf8')).toBe('qcow2fs: this file is always broken\n');
  }));

test('a mountpoint that vanishes is told, and nothing is left', () =>
  withPlace(async ({ mountpoint }) => {
    const mounting = mountTestFiles(mountpoint, { ...NATIVE, imagePaths: ['/images/mountpoint-vanishes'] });
    expect((await rejectionOf(mounting)).message).toBe(
      `cannot mount on ${mountpoint}: libfuse refused it (Mountpoint does not exist), and may have said why in the log`,
    );
    await waitUntil(() => findDaemons(mountpoint).length === 0);
  }));
