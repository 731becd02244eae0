/** How a mount ends while a file system in one of its disks is mounted through a loop device. */

import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { mountInBackground } from '../../src/daemon/start-daemon.ts';
import { daemonOf, isMountpoint, REAL_DAEMON, waitUntil, waitUntilGone, withPlace } from '../daemon/mounting.ts';
import { runCommand, tryCommand } from '../support/run-command.ts';

const FILE_BYTES = 4 * 1024 * 1024;

it('a daemon that gets SIGTERM serves the file system until it is unmounted', () =>
  withInnerMount(async ({ mountpoint, inner, file }) => {
    const pid = daemonOf(mountpoint);
    process.kill(pid, 'SIGTERM');
    await waitUntil(() => !isMountpoint(mountpoint));
    expect(readUncached(file).status).toBe(0);
    runCommand('umount', [inner]);
    await waitUntilGone(mountpoint);
  }));

it('a killed daemon leaves a file system that fails with EIO and can be unmounted', () =>
  withInnerMount(async ({ mountpoint, inner, file }) => {
    process.kill(daemonOf(mountpoint), 'SIGKILL');
    await waitUntilGone(mountpoint);
    expect(fs.readdirSync(mountpoint)).toEqual([]);
    const { status, stderr } = readUncached(file);
    expect(status).not.toBe(0);
    expect(stderr).toContain('Input/output error');
    runCommand('umount', [inner]);
    await waitUntil(
      () => !runCommand('losetup', ['--list', '--noheadings', '--output', 'BACK-FILE']).includes(mountpoint),
    );
  }));

interface InnerMount {
  /** Where qcow2fs is mounted. */
  readonly mountpoint: string;
  /** Where the file system of the disk is mounted. */
  readonly inner: string;
  /** A file in it. */
  readonly file: string;
}

function withInnerMount(body: (mounts: InnerMount) => Promise<void>): Promise<void> {
  return withPlace(async ({ folder, mountpoint }) => {
    const imagePath = makeImage(folder);
    const inner = path.join(folder, 'inner');
    fs.mkdirSync(inner);
    await mountInBackground({ imagePaths: [imagePath], mountpoint, directIo: false }, { daemonEntry: REAL_DAEMON });
    try {
      runCommand('mount', ['-o', 'ro,loop', path.join(mountpoint, 'current/disk.raw'), inner]);
      await body({ mountpoint, inner, file: path.join(inner, 'file') });
    } finally {
      // Already done unless the test failed.
      tryCommand('umount', [inner]);
    }
  });
}

/** An image of an ext4 with one file. */
function makeImage(folder: string): string {
  const source = path.join(folder, 'source');
  fs.mkdirSync(source);
  fs.writeFileSync(path.join(source, 'file'), Buffer.alloc(FILE_BYTES, 0x61));
  const raw = path.join(folder, 'disk');
  runCommand('mkfs.ext4', ['-q', '-d', source, raw, '16M']);
  const image = path.join(folder, 'disk.qcow2');
  runCommand('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, image]);
  return image;
}

/** Past the page caches of the inner file system and of the loop device. */
function readUncached(file: string) {
  return tryCommand('dd', [`if=${file}`, 'of=/dev/null', 'bs=1M', 'iflag=direct', 'status=none']);
}
