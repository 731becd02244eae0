/** What people do with a disk that can be written, and with one that cannot be what they want it to be. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { waitUntil, waitUntilGone } from '../daemon/mounting.ts';
import { withLoopDevice } from '../mounted/block-devices.ts';
import { LUKS, makeEncryptedImage, PASSPHRASE, writePassphrase } from '../mounted/encrypted-image.ts';
import { MIB } from '../mounted/live.ts';
import { withMachine } from '../mounted/live-machine.ts';
import { encryptedTrueStates } from '../oracle/encrypted.ts';
import { createImage, createSnapshot } from '../oracle/qemu.ts';
import { sha256OfFile } from '../support/hash.ts';
import { QCOW2FS } from '../support/mounted-image.ts';
import { runCommand, tryCommand } from '../support/run-command.ts';
import { unmountLoop } from '../support/unmount-loop.ts';
import { lettersIn, tryFill, withScratchPlace } from './scratch-place.ts';

const TRANSPORTS = ['kernel', 'fuse-native'];

test.each(TRANSPORTS)('%s: names, sizes and modes stay as they are, and each program is told so', (transport) =>
  withScratchPlace(async (place) => {
    const { disk, mountpoint, image } = place;
    place.mount(['--transport', transport]);
    const attempts: readonly (readonly [script: string, message: string])[] = [
      ['truncate -s 1M "$1"', 'Operation not permitted'],
      ['truncate -s 64M "$1"', 'Operation not permitted'],
      ['cp "$2" "$1"', 'Operation not permitted'],
      ['dd if=/dev/zero of="$1" count=1 status=none', 'Operation not permitted'],
      ['dd if=/dev/zero of="$1" seek=32 bs=1M count=1 conv=notrunc status=none', 'File too large'],
      ['printf x >>"$1"', ''],
      ['fallocate -l 64M "$1"', 'Operation not supported'],
      ['chmod 600 "$1"', ''],
      ['chown 1:1 "$1"', ''],
      ['rm "$1"', 'Read-only file system'],
      ['mv "$1" "$1.old"', 'Read-only file system'],
      ['ln "$1" "$1.link"', ''],
      ['touch "$1.new"', 'Read-only file system'],
      ['mkdir "$3/new"', 'Read-only file system'],
      ['ln -s a "$3/link"', 'Read-only file system'],
      ['setfattr -n user.a -v b "$1"', ''],
      ['printf x >"$3/info.json"', 'ermission denied'],
    ];
    for (const [script, message] of attempts) {
      const { status, stderr } = tryCommand('sh', ['-c', script, 'sh', disk, image, mountpoint]);
      expect(status, script).not.toBe(0);
      if (transport === 'kernel' || message === 'File too large') expect(stderr, script).toContain(message);
    }
    runCommand('touch', [disk]);
    runCommand('truncate', ['-s', '32M', disk]);
    const [{ size, mode }, info] = [fs.statSync(disk), fs.readFileSync(path.join(mountpoint, 'info.json'))];
    expect([size, mode & 0o777]).toEqual([32 * MIB, 0o644]);
    expect(info.length).toBeGreaterThan(10);
    // A write over the end ends there, as that on a device does.
    const fd = fs.openSync(disk, 'r+');
    expect(fs.writeSync(fd, Buffer.alloc(9000, 'e'), 0, 9000, 32 * MIB - 5000)).toBe(5000);
    fs.closeSync(fd);
    expect(lettersIn(disk, 32 * MIB - 6000, 6000)).toBe('ae');
    await place.unmount();
  }),
);

test('qemu-io and qemu-img take it for any raw disk, and a machine writes to it', () =>
  withScratchPlace(async (place) => {
    const { disk, folder } = place;
    place.mount();
    runCommand('qemu-io', [
      ...['-f', 'raw', '-c', 'write -P 0x71 1k 3k', '-c', 'discard 1M 1M', '-c', 'write -z 24M 64k', '-c', 'flush'],
      ...['-c', 'read -P 0x71 1k 3k', '-c', 'read -P 0 1M 1M', '-c', 'read -P 0x61 25M 1M', disk],
    ]);
    runCommand('qemu-io', ['-f', 'raw', '-n', '-c', 'write -P 0x72 5k 7k', disk]);
    await withMachine(
      disk,
      async (machine) => {
        await machine.io('write -q -P 0x73 26M 1M');
        await machine.io('discard -q 27M 64k');
        await machine.io('flush');
        await machine.quit();
      },
      ',format=raw',
    );
    expect(lettersIn(disk, 0, 3 * MIB)).toBe('aqara0');
    expect(lettersIn(disk, 24 * MIB, 4 * MIB)).toBe('0as0a');
    const [raw, converted] = [path.join(folder, 'copy.raw'), path.join(folder, 'copy.qcow2')];
    runCommand('qemu-img', ['convert', '-f', 'raw', '-O', 'raw', disk, raw]);
    runCommand('cmp', [raw, disk]);
    runCommand('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', disk, converted]);
    runCommand('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', disk, converted]);
    await place.unmount();
  }));

test('what a file system discards is space again', () =>
  withScratchPlace(async (place) => {
    const { disk, folder } = place;
    const [delta, mounted] = [path.join(folder, 'delta'), path.join(folder, 'mounted')];
    const usedMiB = () => (fs.statSync(delta).blocks * 512) / MIB;
    fs.mkdirSync(mounted);
    place.mount(['--delta', delta]);
    runCommand('mkfs.ext4', ['-q', '-F', disk]);
    expect(usedMiB()).toBeLessThan(3);
    // All that is not the file system's own is discarded.
    expect(fs.statSync(disk).blocks * 512).toBeLessThan(3 * MIB);
    runCommand('mount', ['-o', 'loop', disk, mounted]);
    try {
      fs.writeFileSync(`${mounted}/large`, Buffer.alloc(16 * MIB, 'l'), { flush: true });
      expect(usedMiB()).toBeGreaterThan(16);
      fs.rmSync(`${mounted}/large`);
      runCommand('sync', ['-f', mounted]);
      expect(runCommand('fstrim', ['-v', mounted])).toMatch(/trimmed/);
      expect(usedMiB()).toBeLessThan(6);
      const { status, stderr } = tryCommand(QCOW2FS, ['umount', place.mountpoint]);
      expect(stderr).toMatch(/cannot unmount .*: it is in use by loop device \/dev\/loop\d+; close that/);
      expect(status).toBe(1);
    } finally {
      unmountLoop(disk, mounted);
    }
    runCommand('e2fsck', ['-fn', disk]);
    await place.unmount();
  }));

test('a loop device on it is a block device like others', () =>
  withScratchPlace(async (place) => {
    place.mount();
    await withLoopDevice([place.disk], (device) => {
      expect(tryFill(device, 'x', 8191, 10_000)).toMatchObject({ status: 0 });
      runCommand('blockdev', ['--flushbufs', device]);
      runCommand('blkdiscard', ['--offset', String(MIB), '--length', '65536', device]);
      runCommand('cmp', [device, place.disk]);
    });
    expect(lettersIn(place.disk, 0, 2 * MIB)).toBe('axa0a');
    await waitUntil(() => tryCommand(QCOW2FS, ['umount', place.mountpoint]).status === 0);
    await waitUntilGone(place.mountpoint);
  }));

test('only its owner may write it, whoever is let in', () =>
  withScratchPlace(async (place) => {
    const asOther = (script: string) => {
      const identity = ['--reuid=65534', '--regid=65534', '--clear-groups', '--'];
      return tryCommand('setpriv', [...identity, 'sh', '-c', script, 'sh', place.disk]);
    };
    for (const transport of TRANSPORTS) {
      place.mount(['--transport', transport]);
      expect(asOther('head -c 1 "$1"').stderr).toContain('Permission denied');
      expect(asOther('dd if=/dev/zero of="$1" conv=notrunc count=1').stderr).toContain('Permission denied');
      await place.unmount();
      place.mount(['--transport', transport, '-o', 'allow_other']);
      expect(asOther('head -c 1 "$1"')).toEqual({ status: 0, stdout: 'a', stderr: '' });
      expect(asOther('dd if=/dev/zero of="$1" conv=notrunc count=1').stderr).toContain('Permission denied');
      expect(asOther('exec 5<>"$1"').status).not.toBe(0);
      await place.unmount();
    }
    place.mount(['-o', 'allow_other,uid=65534,umask=077']);
    expect(fs.statSync(place.disk)).toMatchObject({ uid: 65_534, mode: 0o100600 });
    expect(asOther('printf x | dd of="$1" conv=notrunc')).toMatchObject({ status: 0 });
    expect(lettersIn(place.disk, 0, 5)).toBe('xa');
    await place.unmount();
  }));

test('states are named as everywhere, and what cannot be mounted is said in one line', () =>
  withScratchPlace(async (place) => {
    const { image, mountpoint } = place;
    for (const [state, letter] of [
      ['id:2', 'b'],
      ['name:monday', 'a'],
      ['current', 'c'],
    ] as const) {
      place.mount([], { state });
      expect(lettersIn(place.disk, 0, 100)).toBe(letter);
      await place.unmount();
    }
    createSnapshot(image, 'monday');
    const attempts: readonly (readonly [args: readonly string[], exitCode: number, message: RegExp])[] = [
      [[image, 'mondya', mountpoint], 1, /no snapshot is called mondya; `qcow2fs list` shows those there are/],
      [[image, 'id:9', mountpoint], 1, /id:9/],
      [[image, 'monday', mountpoint], 2, /2 snapshots are called monday: id:1 .*, id:3 .*; take one by its id/],
      [[`${image}.missing`, 'monday', mountpoint], 1, /no such file/],
      [[image, 'id:1', `${mountpoint}/missing`], 1, /does not exist; create it with `mkdir/],
      [['--max-delta', '0', image, 'id:1', mountpoint], 2, /--max-delta 0: it needs a size, such as 512M or 4G/],
      [['--max-delta', '1X', image, 'id:1', mountpoint], 2, /--max-delta 1X: it needs a size/],
      [['--delta', '', image, 'id:1', mountpoint], 2, /--delta is empty/],
      [['--export', '', image, 'id:1', mountpoint], 2, /--export is empty/],
      [['--delta', 'x', '--export', './x', image, 'id:1', mountpoint], 2, /--delta and --export are both .*\/x:/],
      [['--delta', 'x', '--log-file', './x', image, 'id:1', mountpoint], 2, /--delta and --log-file are both .*\/x:/],
      [['-o', 'live-current', image, 'current', mountpoint], 2, /live-current is not for scratch/],
      [['-o', 'noatime,ro', image, 'id:1', mountpoint], 2, /ro is not for scratch, .*: use `qcow2fs mount`/],
    ];
    for (const [args, exitCode, message] of attempts) {
      const { status, stderr } = tryCommand(QCOW2FS, ['scratch', ...args]);
      expect(stderr).toMatch(message);
      expect(stderr.trimEnd().split('\n')).toHaveLength(1);
      expect(status).toBe(exitCode);
    }
    expect(fs.readdirSync(mountpoint)).toEqual([]);
  }));

test('one file by several names is not written to for two reasons', () =>
  withScratchPlace(async (place) => {
    const { folder, image, mountpoint } = place;
    const file = (name: string) => path.join(folder, name);
    const delta = file('delta');
    place.mount(['--delta', delta]);
    await place.unmount();
    const before = fs.readFileSync(delta);
    fs.symlinkSync('delta', file('symlink'));
    fs.linkSync(delta, file('hard link'));
    fs.symlinkSync(folder, file('folder'));
    fs.symlinkSync(`${folder}/folder/new`, file('to new'));
    fs.symlinkSync(`folder/../${path.basename(folder)}/new`, file('to new, relative'));
    const [DELTA, LOG, EXPORT] = ['--delta', '--log-file', '--export'] as const;
    const attempts: readonly (readonly [options: readonly string[], message: string])[] = [
      [[DELTA, delta, LOG, file('symlink')], `--delta ${delta} and --log-file ${file('symlink')} are one file`],
      [[DELTA, file('symlink'), LOG, delta], `--delta ${file('symlink')} and --log-file ${delta} are one file`],
      [[DELTA, delta, LOG, file('hard link')], `--delta ${delta} and --log-file ${file('hard link')} are one file`],
      [[DELTA, delta, EXPORT, file('hard link')], `--delta ${delta} and --export ${file('hard link')} are one file`],
      [
        [DELTA, delta, LOG, file('folder/delta')],
        `--delta ${delta} and --log-file ${file('folder/delta')} are one file`,
      ],
      [
        [DELTA, file('new'), LOG, file('folder/new')],
        `--delta ${file('new')} and --log-file ${file('folder/new')} are one file`,
      ],
      [
        [DELTA, file('new'), LOG, file('to new')],
        `--delta ${file('new')} and --log-file ${file('to new')} are one file`,
      ],
      [
        [EXPORT, file('new'), LOG, file('to new, relative')],
        `--export ${file('new')} and --log-file ${file('to new, relative')} are one file`,
      ],
      [
        [DELTA, file('new'), EXPORT, file('folder/new')],
        `--delta ${file('new')} and --export ${file('folder/new')} are one file`,
      ],
      [
        [EXPORT, file('new'), LOG, file('new.delta')],
        `the delta of --export and --log-file are both ${file('new.delta')}`,
      ],
    ];
    for (const [options, message] of attempts) {
      const result = tryCommand(QCOW2FS, ['scratch', ...options, image, 'monday', mountpoint]);
      expect(result).toEqual({ status: 2, stdout: '', stderr: `qcow2fs: ${message}: name two files\n` });
    }
    expect(fs.readFileSync(delta).equals(before)).toBe(true);
    expect(fs.existsSync(file('new'))).toBe(false);
    // Files of one name in two folders are two.
    fs.mkdirSync(file('other'));
    expect(
      tryCommand(QCOW2FS, ['scratch', DELTA, delta, LOG, file('other/delta'), image, 'monday', mountpoint]),
    ).toEqual({ status: 0, stdout: '', stderr: '' });
    await place.unmount();
  }));

test('in the foreground, it ends with the mount', () =>
  withScratchPlace(async (place) => {
    const child = spawn(QCOW2FS, ['scratch', '-f', '-o', 'ro,rw,noatime', place.image, 'monday', place.mountpoint]);
    const ended = once(child, 'close');
    await waitUntil(() => fs.existsSync(place.disk));
    expect(tryFill(place.disk, 'x', 0, 100)).toMatchObject({ status: 0 });
    expect(runCommand('findmnt', ['-n', '-o', 'OPTIONS', place.mountpoint])).toMatch(/^rw,.*noatime/);
    await place.unmount();
    expect(await ended).toEqual([0, null]);
  }));

test('an image over a backing file: neither of both is written to', () =>
  withScratchPlace(async (place) => {
    const { folder, image } = place;
    const top = path.join(folder, 'top.qcow2');
    createImage(top, { backing: { name: image, format: 'qcow2' }, sizeBytes: 40 * MIB });
    const before = [top, image].map((file) => fs.readFileSync(file));
    place.mount([], { image: top, state: 'current' });
    expect(fs.statSync(place.disk).size).toBe(40 * MIB);
    for (const offset of [100, 31 * MIB + 5, 32 * MIB - 3, 36 * MIB + 1]) {
      expect(tryFill(place.disk, 'x', offset, 5000)).toMatchObject({ status: 0 });
    }
    expect(lettersIn(place.disk, 0, 3 * MIB)).toBe('cxc0');
    expect(lettersIn(place.disk, 31 * MIB, 9 * MIB)).toBe('cxcx0x0');
    await place.unmount();
    expect([top, image].map((file, index) => fs.readFileSync(file).equals(before[index] as Buffer))).toEqual([
      true,
      true,
    ]);
  }));

test('an encrypted image: its disk is what QEMU reads, and stays as it is', () =>
  withScratchPlace(async (place) => {
    const { folder, disk } = place;
    const image = makeEncryptedImage(folder, LUKS, 'encrypted.qcow2');
    const passphrase = writePassphrase(folder, `${PASSPHRASE}\n`);
    const states = encryptedTrueStates(image, folder);
    const before = sha256OfFile(image.path);
    for (const { rawPath, snapshot } of states) {
      const state = snapshot === undefined ? 'current' : `id:${snapshot.id}`;
      place.mount(['--passphrase-file', passphrase], { image: image.path, state });
      runCommand('cmp', [rawPath, disk]);
      for (const file of [rawPath, disk]) expect(tryFill(file, 'x', 100_001, 70_000)).toMatchObject({ status: 0 });
      runCommand('cmp', [rawPath, disk]);
      await place.unmount();
    }
    expect(states.length).toBeGreaterThan(1);
    expect(sha256OfFile(image.path)).toBe(before);
  }));
