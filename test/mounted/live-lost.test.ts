/** What an image lies on goes away under its mount: file systems, devices, daemons. */

import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { hasEnded } from '../../src/daemon/find-daemons.ts';
import { mountInBackground } from '../../src/daemon/start-daemon.ts';
import { daemonOf, isMountpoint, type Place, REAL_DAEMON, waitUntil, waitUntilGone } from '../daemon/mounting.ts';
import { createSnapshot } from '../oracle/qemu.ts';
import { runCommand, tryCommand } from '../support/run-command.ts';
import {
  currentDisk,
  expectFollowed,
  FAR,
  fillDisk,
  type LiveMount,
  letterAt,
  letterOf,
  snapshotDisk,
  waitUntilFollowed,
  whileOpen,
  withLiveImage,
} from './live.ts';

/** An ext4 in the file `fs.raw` that holds the image as `disk.qcow2`. */
function makeFileSystem({ folder, image }: LiveMount): string {
  const source = path.join(folder, 'source');
  fs.mkdirSync(source);
  fs.copyFileSync(image, path.join(source, 'disk.qcow2'));
  const raw = path.join(folder, 'fs.raw');
  runCommand('mkfs.ext4', ['-q', '-d', source, raw, '96M']);
  return raw;
}

function makeFolder({ folder }: Place, name: string): string {
  const made = path.join(folder, name);
  fs.mkdirSync(made);
  return made;
}

test('a file system that is unmounted lazily leaves open files readable, and is followed when it is mounted again', () =>
  withLiveImage(async (live) => {
    const below = makeFolder(live, 'below');
    const image = path.join(below, 'disk.qcow2');
    const raw = makeFileSystem(live);
    const mountBelow = () => runCommand('mount', ['-o', 'loop', raw, below]);
    mountBelow();
    try {
      live.mount([], [image]);
      await whileOpen(snapshotDisk(live.mountpoint, 'monday'), async (monday) => {
        runCommand('umount', ['-l', below]);
        await waitUntil(() => live.log().includes(`${image} was moved or deleted`));
        expect(letterOf(monday, FAR)).toBe('a');
        mountBelow();
        createSnapshot(image, 'back');
        await expectFollowed({ ...live, image });
        expect(['a', 'ESTALE']).toContain(letterOf(monday, FAR + 4096));
      });
      live.unmount();
      await waitUntilGone(live.mountpoint);
    } finally {
      tryCommand('umount', ['-l', below]);
    }
    expect(runCommand('losetup', ['--list', '--noheadings', '--output', 'BACK-FILE'])).not.toContain(live.folder);
  }));

test('an image on a block device is followed, and the device can be detached meanwhile', () =>
  withLiveImage(async (live) => {
    // Room for what is to come.
    fs.truncateSync(live.image, 80 << 20);
    const device = runCommand('losetup', ['--find', '--show', live.image]).trim();
    try {
      live.mount([], [device]);
      await whileOpen(snapshotDisk(live.mountpoint, 'monday'), async (monday) => {
        createSnapshot(device, 'wednesday');
        await waitUntilFollowed(live.mountpoint, device);
        expect(letterAt(snapshotDisk(live.mountpoint, 'wednesday'), FAR)).toBe('c');
        fillDisk(device, 'd');
        await waitUntil(() => letterAt(currentDisk(live.mountpoint), FAR) === 'd');
        // It is gone when the last who has it open is.
        runCommand('losetup', ['-d', device]);
        expect(letterOf(monday, FAR)).toBe('a');
      });
      live.unmount();
      await waitUntil(
        () => !runCommand('losetup', ['--list', '--noheadings', '--output', 'BACK-FILE']).includes(live.image),
      );
    } finally {
      tryCommand('losetup', ['-d', device]);
    }
  }));

/** Runs `body` while `disk` is the current state of another mount, whose daemon it may kill. */
async function whileServed(live: LiveMount, disk: string, body: (served: string, pid: number) => Promise<void>) {
  const outer = path.join(live.folder, 'outer.qcow2');
  const mountpoint = makeFolder(live, 'outer');
  runCommand('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', disk, outer]);
  await mountInBackground({ imagePaths: [outer], mountpoint, directIo: false }, { daemonEntry: REAL_DAEMON });
  const pid = daemonOf(mountpoint);
  try {
    await body(currentDisk(mountpoint), pid);
  } finally {
    if (isMountpoint(mountpoint)) runCommand('umount', ['-l', mountpoint]);
    await waitUntilGone(mountpoint);
  }
}

test('the daemon of a FUSE file system below is killed: errors, a line in the log, and an end in order', () =>
  withLiveImage((live) =>
    whileServed(live, live.image, async (image, pid) => {
      live.mount([], [image]);
      const daemon = daemonOf(live.mountpoint);
      await whileOpen(snapshotDisk(live.mountpoint, 'monday'), async (monday) => {
        expect(letterOf(monday, 0)).toBe('a');
        process.kill(pid, 'SIGKILL');
        await waitUntil(() => live.log().includes('what was mounted of it stays as it was'));
        expect(
          live
            .log()
            .split('\n')
            .filter((line) => line.includes('stays as it was')),
        ).toHaveLength(1);
        expect(['EIO', 'ESTALE']).toContain(letterOf(monday, FAR));
        expect(['EIO', 'ESTALE']).toContain(letterAt(currentDisk(live.mountpoint), FAR));
        expect(fs.readdirSync(path.join(live.mountpoint, 'snapshots')).sort()).toEqual(['monday', 'tuesday']);
      });
      expect(daemonOf(live.mountpoint)).toBe(daemon);
      live.unmount();
      await waitUntilGone(live.mountpoint);
    }),
  ));

test('the disk below fails with EIO: so do reads, and the mount ends in order', () =>
  withLiveImage((live) =>
    whileServed(live, makeFileSystem(live), async (disk, pid) => {
      const inner = makeFolder(live, 'inner');
      runCommand('mount', ['-o', 'ro,loop', disk, inner]);
      try {
        live.mount([], [path.join(inner, 'disk.qcow2')]);
        const daemon = daemonOf(live.mountpoint);
        await whileOpen(snapshotDisk(live.mountpoint, 'monday'), async (monday) => {
          expect(letterOf(monday, 0)).toBe('a');
          process.kill(pid, 'SIGKILL');
          await waitUntil(() => hasEnded(pid));
          // Drops what the page cache has of it.
          runCommand('dd', [`if=${inner}/disk.qcow2`, 'iflag=nocache', 'count=0', 'status=none']);
          await waitUntil(() => letterOf(monday, FAR + (1 << 20)) !== 'a');
          expect(['EIO', 'ESTALE']).toContain(letterOf(monday, FAR + (1 << 20)));
        });
        expect(daemonOf(live.mountpoint)).toBe(daemon);
        live.unmount();
        await waitUntilGone(live.mountpoint);
      } finally {
        tryCommand('umount', ['-l', inner]);
      }
    }),
  ));
