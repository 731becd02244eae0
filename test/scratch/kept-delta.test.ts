/** Deltas in files: mounts that go on with them, daemons that are killed, and files that are no delta of the state. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { daemonOf, waitUntil, waitUntilGone } from '../daemon/mounting.ts';
import { MIB } from '../mounted/live.ts';
import { createImage, createSnapshot } from '../oracle/qemu.ts';
import { sha256OfFile } from '../support/hash.ts';
import { QCOW2FS } from '../support/mounted-image.ts';
import { runCommand, tryCommand } from '../support/run-command.ts';
import { lettersIn, punch, type ScratchPlace, tryFill, withScratchPlace } from './scratch-place.ts';

function deltaOf({ folder }: ScratchPlace): string {
  return path.join(folder, 'delta');
}

test.each(['kernel', 'fuse-native'])('%s: what was written is there when the delta is mounted again', (transport) =>
  withScratchPlace(async (place) => {
    const { disk } = place;
    const options = ['--transport', transport, '--delta', deltaOf(place)];
    place.mount(options);
    expect(tryFill(disk, 'x', 1000, MIB)).toMatchObject({ status: 0 });
    await place.unmount();
    place.mount(options);
    expect(lettersIn(disk, 0, 2 * MIB)).toBe('axa');
    expect(tryFill(disk, 'y', 500_000, MIB)).toMatchObject({ status: 0 });
    await place.unmount();
    place.mount(options);
    expect(lettersIn(disk, 0, 2 * MIB + 1)).toBe('axya0');
    await place.unmount();
    // Without it, and as another state, nothing of it is to be seen.
    place.mount();
    expect(lettersIn(disk, 0, 2 * MIB)).toBe('a');
    await place.unmount();
  }),
);

test('holes and space are kept as well', () =>
  withScratchPlace(async (place) => {
    const { disk } = place;
    const [limited, larger] = ['1M', '2M'].map((size) => ['--delta', deltaOf(place), '--max-delta', size]);
    place.mount(limited);
    expect(tryFill(disk, 'x', 0, MIB)).toMatchObject({ status: 0 });
    punch(disk, 100_000, 100_000);
    punch(disk, MIB, 500_000);
    await place.unmount();
    place.mount(limited);
    expect(lettersIn(disk, 0, 2 * MIB)).toBe('x0x0a');
    expect(tryFill(disk, 'y', 8 * MIB, MIB)).toMatchObject({ status: 1 });
    expect(lettersIn(disk, 8 * MIB - 1, MIB)).toBe('0y0');
    await place.unmount();
    place.mount(larger);
    expect(tryFill(disk, 'y', 8 * MIB, MIB)).toMatchObject({ status: 0 });
    await place.unmount();
  }));

test('a delta that was removed meanwhile is told to be lost', () =>
  withScratchPlace(async (place) => {
    const { disk, mountpoint } = place;
    place.mount(['--delta', deltaOf(place)]);
    expect(tryFill(disk, 'x', 0, MIB)).toMatchObject({ status: 0 });
    fs.unlinkSync(deltaOf(place));
    expect(tryCommand(QCOW2FS, ['umount', mountpoint])).toEqual({
      status: 1,
      stdout: '',
      stderr: `qcow2fs: ${mountpoint} is unmounted, but the changes are lost, as somebody has removed ${deltaOf(place)}\n`,
    });
    await waitUntilGone(mountpoint);
  }));

/** Writes pieces of 50 000 bytes that begin with their number, each fsynced before its number is printed. */
const WRITER = `
const fs = require('node:fs');
const fd = fs.openSync(process.argv[1], 'r+');
for (let number = 1; ; number++) {
  const piece = Buffer.alloc(50000, 'x');
  piece.writeUInt32LE(number);
  fs.writeSync(fd, piece, 0, piece.length, (number % 200) * 50000);
  fs.fsyncSync(fd);
  fs.writeSync(1, number + '\\n');
}`;

test.each(['kernel', 'fuse-native'])(
  '%s: what was fsynced is there after the daemon was killed amid writes',
  (transport) =>
    withScratchPlace(async (place) => {
      const { disk, mountpoint } = place;
      const options = ['--transport', transport, '--delta', deltaOf(place)];
      for (const count of [3, 210]) {
        place.mount(options);
        const writer = spawn(process.execPath, ['-e', WRITER, disk], { stdio: ['ignore', 'pipe', 'pipe'] });
        let numbers = '';
        writer.stdout.on('data', (text) => (numbers += text));
        const ended = once(writer, 'close');
        await waitUntil(() => lastOf(numbers) >= count);
        process.kill(daemonOf(mountpoint), 'SIGKILL');
        await ended;
        await waitUntilGone(mountpoint);
        expect(fs.readdirSync(mountpoint)).toEqual([]);
        const last = lastOf(numbers);
        place.mount(options);
        // The one after it may be there as well, all or a part of it.
        for (let number = Math.max(1, last - 198); number <= last; number++) {
          const piece = readPiece(disk, (number % 200) * 50_000);
          expect(piece.readUInt32LE(), `piece ${number} of ${last}`).toBe(number);
          expect(piece.subarray(4).every((byte) => byte === 0x78)).toBe(true);
        }
        expect(lettersIn(disk, 32 * MIB - 100, 100)).toBe('a');
        await place.unmount();
      }
    }),
);

/** The last one that was printed as a whole. */
function lastOf(numbers: string): number {
  return Number(numbers.split('\n').at(-2) ?? 0);
}

function readPiece(disk: string, offset: number): Buffer {
  const piece = Buffer.alloc(50_000);
  const fd = fs.openSync(disk, 'r');
  fs.readSync(fd, piece, 0, piece.length, offset);
  fs.closeSync(fd);
  return piece;
}

test('a delta that belongs to another state or image, or is none, is refused and left as it is', () =>
  withScratchPlace(async (place) => {
    const { folder, image } = place;
    const [delta, text, empty] = [deltaOf(place), path.join(folder, 'text'), path.join(folder, 'empty')];
    const other = path.join(folder, 'other.qcow2');
    createImage(other, { sizeBytes: 32 * MIB });
    createSnapshot(other, 'monday');
    fs.writeFileSync(text, 'a letter to somebody\n'.repeat(1000));
    fs.writeFileSync(empty, '');
    place.mount(['--delta', delta]);
    tryFill(place.disk, 'x', 0, 100);
    await place.unmount();
    const cases = [
      [
        delta,
        { state: 'tuesday' },
        /is the delta of monday of .*disk\.qcow2 .*, not of tuesday of .*: use another file/,
      ],
      [delta, { state: 'current' }, /is the delta of monday of .*, not of current of/],
      [delta, { image: other }, /is the delta of monday of .*disk\.qcow2 .*, not of monday of .*other\.qcow2/],
      [text, {}, /text is not a delta of qcow2fs, and is left as it is: name a file that is not there yet/],
      [empty, {}, /empty is not a delta of qcow2fs/],
      [image, {}, /disk\.qcow2 is not a delta of qcow2fs/],
      [folder, {}, /is no regular file, so it cannot be a delta/],
      ['/dev/null', {}, /is no regular file/],
      [path.join(folder, 'missing', 'delta'), {}, /the delta cannot be opened: ENOENT/],
      [path.join(place.mountpoint, 'delta'), {}, /cannot mount on .*: the delta .* would lie in it/],
    ] as const;
    const files = [delta, text, empty, image];
    const before = files.map(fingerprint);
    for (const [file, choice, message] of cases) {
      const { status, stderr } = place.tryMount(['--delta', file], choice);
      expect(stderr).toMatch(message);
      expect(stderr.trimEnd().split('\n')).toHaveLength(1);
      expect(status).toBe(1);
    }
    expect(files.map(fingerprint)).toEqual(before);
    expect(fs.readdirSync(place.mountpoint)).toEqual([]);
  }));

test('a delta of the current state is refused when a machine has written to the image since', () =>
  withScratchPlace(async (place) => {
    const { image } = place;
    const options = ['--delta', deltaOf(place)];
    place.mount(options, { state: 'current' });
    expect(tryFill(place.disk, 'x', 100, 100)).toMatchObject({ status: 0 });
    await place.unmount();
    place.mount(options, { state: 'current' });
    expect(lettersIn(place.disk, 0, 300)).toBe('cxc');
    await place.unmount();
    runCommand('qemu-io', ['-f', 'qcow2', '-c', 'write -q -P 0x64 0 64k', image]);
    const { status, stderr } = place.tryMount(options, { state: 'current' });
    expect(stderr).toMatch(/is the delta of current of .* as it is now: use another file, or the image as it was/);
    expect(status).toBe(1);
  }));

test('a delta that is in use is refused, and the mount that has it goes on', () =>
  withScratchPlace(async (place) => {
    const [delta, second] = [deltaOf(place), path.join(place.folder, 'second')];
    fs.mkdirSync(second);
    place.mount(['--delta', delta]);
    tryFill(place.disk, 'x', 0, 100);
    const { status, stderr } = tryCommand(QCOW2FS, ['scratch', '--delta', delta, place.image, 'monday', second]);
    expect(stderr).toBe(`qcow2fs: ${delta} is in use by another qcow2fs: end that first\n`);
    expect(status).toBe(1);
    expect(tryFill(place.disk, 'y', 100, 100)).toMatchObject({ status: 0 });
    expect(lettersIn(place.disk, 0, 300)).toBe('xya');
    // A view of its own can be had beside it.
    runCommand(QCOW2FS, ['scratch', place.image, 'monday', second]);
    expect(lettersIn(path.join(second, 'disk.raw'), 0, 300)).toBe('a');
    runCommand(QCOW2FS, ['umount', second]);
    await waitUntilGone(second);
    await place.unmount();
  }));

function fingerprint(file: string): string {
  return `${sha256OfFile(file)} ${fs.statSync(file, { bigint: true }).mtimeNs}`;
}
