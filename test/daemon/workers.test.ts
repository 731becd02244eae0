import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { unmount } from '../../src/daemon/stop-mount.ts';
import { runCommand, tryCommand } from '../support/run-command.ts';
import { daemonOf, isMountpoint, mountTestFiles, waitUntilGone, withPlace } from './mounting.ts';

const START_WORKER_COUNT = 2;
const MAX_WORKER_COUNT = 8;

test('a worker that crashes costs its caller an error, and nobody else anything', () =>
  withPlace(async ({ folder, mountpoint }) => {
    const logFile = path.join(folder, 'log');
    await mountTestFiles(mountpoint, { logFile });
    for (let round = 0; round < 3; round++) {
      expect(readDirectly(mountpoint, 'crash').stderr).toContain('Input/output error');
      expect(readDirectly(mountpoint, 'data').status).toBe(0);
    }
    await unmount(mountpoint);
    expect(fs.readFileSync(logFile, 'utf8')).toContain(
      'a worker thread ended unexpectedly: exit code 9; its request failed with EIO',
    );
  }));

test('a mount whose workers only crash is given up', () =>
  withPlace(async ({ folder, mountpoint }) => {
    const logFile = path.join(folder, 'log');
    await mountTestFiles(mountpoint, { logFile, directIo: true });
    const { stdout } = tryCommand(process.execPath, ['-e', READ_UNTIL_NOT_EIO, path.join(mountpoint, 'crash')]);
    expect(stdout.trim()).toMatch(/^(ENOTCONN|ECONNABORTED)$/);
    await waitUntilGone(mountpoint);
    expect(fs.readFileSync(logFile, 'utf8')).toContain('no worker thread is left');
  }));

test.each([4, MAX_WORKER_COUNT])('%i requests can be under way at once', (count) =>
  withPlace(async ({ mountpoint }) => {
    await mountTestFiles(mountpoint, { directIo: true });
    const before = threadsOf(daemonOf(mountpoint));
    const readers = Array.from({ length: count }, () => startReader(mountpoint, `meeting-${count}`));
    expect(await Promise.all(readers.map(exitOf))).toEqual(readers.map(() => 0));
    expect(threadsOf(daemonOf(mountpoint)) - before).toBeGreaterThanOrEqual(count - START_WORKER_COUNT);
    expect(threadsOf(daemonOf(mountpoint)) - before).toBeLessThanOrEqual(MAX_WORKER_COUNT - START_WORKER_COUNT);
    await unmount(mountpoint);
  }),
);

test('readers that are stuck do not keep others from the tree and its files', () =>
  withPlace(async ({ mountpoint }) => {
    await mountTestFiles(mountpoint, { directIo: true });
    const stuck = Array.from({ length: MAX_WORKER_COUNT - 1 }, () => startReader(mountpoint, 'meeting-8'));
    expect(runCommand('ls', ['-l', mountpoint])).toContain('meeting-8');
    expect(readDirectly(mountpoint, 'data').status).toBe(0);
    expect(stuck.map((child) => child.exitCode)).toEqual(stuck.map(() => null));
    expect(readDirectly(mountpoint, 'meeting-8').status).toBe(0);
    expect(await Promise.all(stuck.map(exitOf))).toEqual(stuck.map(() => 0));
    await unmount(mountpoint);
  }));

test('one reader that asks for one thing after the other makes no workers', () =>
  withPlace(async ({ mountpoint }) => {
    await mountTestFiles(mountpoint, { directIo: true });
    const before = threadsOf(daemonOf(mountpoint));
    runCommand('dd', [`if=${path.join(mountpoint, 'data')}`, 'of=/dev/null', 'bs=64', 'status=none']);
    expect(threadsOf(daemonOf(mountpoint))).toBe(before);
    await unmount(mountpoint);
  }));

test('every reason for an error is in the log, once', () =>
  withPlace(async ({ folder, mountpoint }) => {
    const logFile = path.join(folder, 'log');
    await mountTestFiles(mountpoint, { logFile });
    const workersAsked = 20;
    for (let round = 0; round < workersAsked; round++) readDirectly(mountpoint, 'broken');
    readDirectly(mountpoint, 'crash');
    await unmount(mountpoint);
    const lines = fs.readFileSync(logFile, 'utf8').trim().split('\n');
    const reasons = lines.filter((line) => line === 'qcow2fs: this file is always broken');
    expect(reasons.length).toBeGreaterThanOrEqual(1);
    // Each thread has said it once.
    expect(reasons.length).toBeLessThanOrEqual(START_WORKER_COUNT);
  }));

test('an empty log file says that nothing went wrong', () =>
  withPlace(async ({ folder, mountpoint }) => {
    const logFile = path.join(folder, 'log');
    await mountTestFiles(mountpoint, { logFile });
    runCommand('cp', [path.join(mountpoint, 'data'), path.join(folder, 'copy')]);
    await unmount(mountpoint);
    expect(isMountpoint(mountpoint)).toBe(false);
    expect(fs.readFileSync(logFile, 'utf8')).toBe('');
  }));

/** One READ of 4 KiB. */
function readDirectly(mountpoint: string, name: string) {
  return tryCommand('dd', [`if=${path.join(mountpoint, name)}`, 'of=/dev/null', 'bs=4k', 'count=1', 'iflag=direct']);
}

function startReader(mountpoint: string, name: string): ChildProcess {
  return spawn('dd', [`if=${path.join(mountpoint, name)}`, 'of=/dev/null', 'bs=4k', 'count=1', 'iflag=direct'], {
    stdio: 'ignore',
  });
}

async function exitOf(child: ChildProcess): Promise<number | null> {
  if (child.exitCode === null) await once(child, 'exit');
  return child.exitCode;
}

function threadsOf(pid: number): number {
  return fs.readdirSync(`/proc/${pid}/task`).length;
}

/** Reads again as long as that fails with EIO; only READ requests, so that no reply comes in between. */
const READ_UNTIL_NOT_EIO = `
  const fd = fs.openSync(process.argv[1]);
  for (;;) {
    try {
      fs.readSync(fd, Buffer.alloc(4096), 0, 4096, 0);
    } catch (error) {
      if (error.code === 'EIO') continue;
      console.log(error.code);
      break;
    }
  }
`;
