/** What only shows after a long time: something that stays behind each time, or grows. */

import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { expect, test } from 'vitest';
import { mountInBackground } from '../../src/daemon/start-daemon.ts';
import { unmount } from '../../src/daemon/stop-mount.ts';
import { daemonOf, makeImage, mountImage, REAL_DAEMON, waitUntilGone, withPlace } from '../daemon/mounting.ts';
import { expectSameResources, residentBytes, resourcesOf, WORKER_BYTES } from '../support/daemon-resources.ts';
import { countDescriptors } from '../support/descriptors.ts';
import { loopDevicesBelow, processesNaming } from '../support/leftovers.ts';
import { runCommand } from '../support/run-command.ts';

const MINUTES_MS = 60_000;
const CYCLES = 200;
const OPENS = 10_000;
const READING_SECONDS = 60;
/** Until both workers have compiled code and filled caches. */
const WARM_UP_SECONDS = 15;
const SAMPLE_SECONDS = 15;
/** Garbage collection makes the resident size go up and down by some MiB. */
const MAX_GROWTH_BYTES = 8 * 1024 * 1024;
/** A signal, or a worker that died, waits no longer than this for the main thread. */
const MAX_BLOCKED_MS = 50;
/**
 * Where other tests write to the disk, the host of a virtual machine wakes it too late once or twice a minute. A thread that waits
 * does so at each look at the images, five times a second.
 */
const MAX_WAIT_COUNT = 5;

test(
  `${CYCLES} mounts leave nothing behind`,
  () =>
    withPlace(async ({ folder, mountpoint }) => {
      const imagePath = makeImage(folder);
      const cycle = async () => {
        await mountInBackground({ imagePaths: [imagePath], mountpoint, directIo: false }, { daemonEntry: REAL_DAEMON });
        expect(fs.readFileSync(path.join(mountpoint, 'current/disk.raw')).subarray(0, 2).toString()).toBe('aa');
        await unmount(mountpoint);
      };
      await cycle();
      // Temporary files would be found too.
      const usual = process.env.TMPDIR;
      process.env.TMPDIR = folder;
      const before = { fds: countDescriptors(), files: fs.readdirSync(folder) };
      try {
        for (let count = 1; count < CYCLES; count++) await cycle();
        await waitUntilGone(mountpoint);
      } finally {
        process.env.TMPDIR = usual;
      }
      expect({ fds: countDescriptors(), files: fs.readdirSync(folder) }).toEqual(before);
      expect(processesNaming(folder)).toEqual([]);
      expect(loopDevicesBelow(folder)).toEqual([]);
    }),
  5 * MINUTES_MS,
);

test(`${OPENS} opens leave nothing behind in the daemon`, () =>
  withPlace(async (place) => {
    await mountImage(place);
    const pid = daemonOf(place.mountpoint);
    const names = ['image.json', 'current/disk.raw', 'snapshots/monday/disk.raw', 'by-id/1/info.json'];
    const openAll = () => {
      for (const name of names) {
        const fd = fs.openSync(path.join(place.mountpoint, name), 'r');
        fs.readSync(fd, Buffer.alloc(1), 0, 1, 0);
        fs.closeSync(fd);
      }
    };
    openAll();
    const before = resourcesOf(pid);
    for (let count = 0; count < OPENS; count += names.length) openAll();
    expectSameResources(before, resourcesOf(pid));
    await unmount(place.mountpoint);
  }));

test(
  'the memory of the daemon stays flat while it is read, and its main thread stays free',
  () =>
    withPlace(async ({ folder, mountpoint }) => {
      const imagePath = makeCompressedImage(folder);
      const report = path.join(folder, 'report');
      await withEventLoopWatch(report, () =>
        mountInBackground({ imagePaths: [imagePath], mountpoint, directIo: false }, { daemonEntry: REAL_DAEMON }),
      );
      const pid = daemonOf(mountpoint);
      const reader = startReading(mountpoint);
      await sleep(WARM_UP_SECONDS * 1000);
      const loops = resourcesOf(pid).loopCount;
      const start = await medianMemory(pid);
      const [ended] = await Promise.all([
        reader,
        sleep((READING_SECONDS - WARM_UP_SECONDS - 2 * SAMPLE_SECONDS) * 1000)
          .then(() => medianMemory(pid))
          .then((end) => {
            const workersAdded = resourcesOf(pid).loopCount - loops;
            expect(end - start).toBeLessThan(MAX_GROWTH_BYTES + workersAdded * WORKER_BYTES);
          }),
      ]);
      expect(ended).toBe(0);
      await unmount(mountpoint);
      await waitUntilGone(mountpoint);
      const { turnCount, computedMs, waitCount } = JSON.parse(fs.readFileSync(report, 'utf8')) as EventLoopReport;
      expect(turnCount).toBeGreaterThan(READING_SECONDS);
      expect(computedMs).toBeLessThan(MAX_BLOCKED_MS);
      expect(waitCount).toBeLessThanOrEqual(MAX_WAIT_COUNT);
    }),
  4 * MINUTES_MS,
);

/** Four readers at random places of all states, past the page cache: each read comes to the daemon. */
function startReading(mountpoint: string): Promise<number | null> {
  const files = ['current/disk.raw', 'snapshots/monday/disk.raw'].map((name) => path.join(mountpoint, name));
  const child = spawn(
    'fio',
    [
      ...['--name=read', '--readonly', '--ioengine=psync', '--thread', '--direct=1', '--rw=randread', '--bs=4k'],
      ...['--numjobs=4', '--time_based', `--runtime=${READING_SECONDS}`, `--filename=${files.join(':')}`],
    ],
    { stdio: 'ignore' },
  );
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
}

/** Half of it plain clusters, half compressed, and small enough to be cached whole before the first sample. */
function makeCompressedImage(folder: string): string {
  const raw = path.join(folder, 'disk');
  const imagePath = path.join(folder, 'disk.qcow2');
  runCommand('qemu-img', ['create', '-q', '-f', 'raw', raw, '32M']);
  const writes = Array.from({ length: 32 }, (_, megabyte) => `write -q -P ${megabyte + 1} ${megabyte}M 1M`);
  runCommand('qemu-io', ['-f', 'raw', ...writes.flatMap((write) => ['-c', write]), raw]);
  runCommand('qemu-img', ['convert', '-c', '-f', 'raw', '-O', 'qcow2', raw, imagePath]);
  runCommand('qemu-img', ['snapshot', '-c', 'monday', imagePath]);
  runCommand('qemu-io', ['-f', 'qcow2', '-c', 'write -q -P 0xee 0 16M', imagePath]);
  return imagePath;
}

/** Of `event-loop-watch.mjs`. */
interface EventLoopReport {
  readonly turnCount: number;
  readonly computedMs: number;
  readonly waitCount: number;
}

async function withEventLoopWatch(report: string, body: () => Promise<void>): Promise<void> {
  const before = process.env.NODE_OPTIONS;
  const watch = pathToFileURL(path.join(import.meta.dirname, 'event-loop-watch.mjs'));
  process.env.NODE_OPTIONS = `${before ?? ''} --import ${watch.href}`;
  process.env.EVENT_LOOP_REPORT = report;
  process.env.EVENT_LOOP_WAIT_MS = String(MAX_BLOCKED_MS);
  try {
    await body();
  } finally {
    if (before === undefined) delete process.env.NODE_OPTIONS;
    else process.env.NODE_OPTIONS = before;
    delete process.env.EVENT_LOOP_REPORT;
    delete process.env.EVENT_LOOP_WAIT_MS;
  }
}

async function medianMemory(pid: number): Promise<number> {
  const samples: number[] = [];
  for (let second = 0; second < SAMPLE_SECONDS; second++) {
    samples.push(residentBytes(pid));
    await sleep(1000);
  }
  return samples.sort((a, b) => a - b)[Math.floor(samples.length / 2)] ?? Number.NaN;
}
