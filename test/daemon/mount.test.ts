import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { hasEnded } from '../../src/daemon/find-daemons.ts';
import { unmount } from '../../src/daemon/stop-mount.ts';
import { findMount } from '../../src/fuse/mountinfo.ts';
import { runCommand } from '../support/run-command.ts';
import { daemonOf, isMountpoint, mountImage, waitUntilGone, withPlace } from './mounting.ts';

test('the tree can be read when mounting returns, and the daemon is gone when unmounting returns', () =>
  withPlace(async (place) => {
    await mountImage(place);
    const pid = daemonOf(place.mountpoint);
    expect(runCommand('ls', [place.mountpoint]).split('\n')).toContain('current');
    await unmount(place.mountpoint);
    expect(isMountpoint(place.mountpoint)).toBe(false);
    expect(hasEnded(pid)).toBe(true);
  }));

test('findmnt shows image, type and that nothing can be written', () =>
  withPlace(async (place) => {
    const imagePath = await mountImage(place);
    const shown = runCommand('findmnt', ['-n', '-o', 'SOURCE,FSTYPE,OPTIONS', place.mountpoint]).trim().split(/\s+/);
    expect(shown[0]).toBe(imagePath);
    expect(shown[1]).toBe('fuse.qcow2fs');
    expect(shown[2]?.split(',').slice(0, 3)).toEqual(['ro', 'nosuid', 'nodev']);
  }));

test.each([false, true])('a state has the bytes that qemu-img reads, with direct I/O: %s', (directIo) =>
  withPlace(async (place) => {
    const imagePath = await mountImage(place, { directIo });
    const expected = path.join(place.folder, 'expected.raw');
    runCommand('qemu-img', ['convert', '-l', 'monday', '-O', 'raw', imagePath, expected]);
    runCommand('cmp', [expected, path.join(place.mountpoint, 'snapshots/monday/disk.raw')]);
  }),
);

test.each([
  ['1 MiB', '4M', '1024'],
  ['256 KiB on a disk that is mostly holes', '64M', '256'],
])('the read-ahead is %s', (_, size, kib) =>
  withPlace(async (place) => {
    await mountImage(place, {}, size);
    const { device } = findMount(place.mountpoint) ?? {};
    expect(fs.readFileSync(`/sys/class/bdi/${device}/read_ahead_kb`, 'utf8').trim()).toBe(kib);
  }),
);

test('umount(8) ends the daemon too', () =>
  withPlace(async (place) => {
    await mountImage(place);
    runCommand('umount', [place.mountpoint]);
    await waitUntilGone(place.mountpoint);
  }));

test('a mountpoint may have blanks, a backslash and letters of any language in its name', () =>
  withPlace(async (place) => {
    await mountImage(place);
    expect(runCommand('ls', [place.mountpoint]).split('\n')).toContain('snapshots');
    await unmount(place.mountpoint);
    await waitUntilGone(place.mountpoint);
  }, 'a b\t\\040 #ü'));

test('a mountpoint may be named by a relative path and through symlinks', () =>
  withPlace(async (place) => {
    const folderLink = path.join(place.folder, 'folder-link');
    const link = path.join(place.folder, 'link');
    fs.symlinkSync(place.folder, folderLink);
    fs.symlinkSync('mnt', link);
    await mountImage({ ...place, mountpoint: path.relative(process.cwd(), link) });
    expect(isMountpoint(place.mountpoint)).toBe(true);
    await unmount(path.join(folderLink, 'link'));
    expect(isMountpoint(place.mountpoint)).toBe(false);
  }));

test('one directory can be used again and again', () =>
  withPlace(async (place) => {
    for (let round = 0; round < 3; round++) {
      await mountImage(place);
      await unmount(place.mountpoint);
    }
    expect(isMountpoint(place.mountpoint)).toBe(false);
  }));
