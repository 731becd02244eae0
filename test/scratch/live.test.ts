/** The image of a scratch view changes: its own snapshot goes, others come and go, a machine writes, the file is another one. */

import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { waitUntil, waitUntilGone } from '../daemon/mounting.ts';
import { FAR, letterOf, makeLiveImage } from '../mounted/live.ts';
import { withMachine } from '../mounted/live-machine.ts';
import { createSnapshot, deleteSnapshot, runQemuIo } from '../oracle/qemu.ts';
import { startCommand } from '../support/run-async.ts';
import { lettersIn, type ScratchPlace, tryFill, withScratchPlace } from './scratch-place.ts';

const GONE = ['ESTALE', 'EIO'];

/** The name of the error of an action; `ok` without one. libuv has no name for ESTALE. */
function outcomeOf(action: () => unknown): string {
  try {
    action();
    return 'ok';
  } catch (error) {
    const { errno, code } = error as NodeJS.ErrnoException;
    return errno === -116 ? 'ESTALE' : String(code);
  }
}

/** Keeps the disk open for reading and writing while `body` runs. */
async function whileOpen({ disk }: ScratchPlace, body: (fd: number) => Promise<void>): Promise<void> {
  const fd = fs.openSync(disk, 'r+');
  try {
    await body(fd);
  } finally {
    fs.closeSync(fd);
  }
}

function write(fd: number, letter: string, offset: number, length = 1): string {
  return outcomeOf(() => fs.writeSync(fd, Buffer.alloc(length, letter), 0, length, offset));
}

/** All that is tried with a view that is no more fails. */
function expectGone(fd: number): void {
  // In the delta, beside it, at the edge of both, and in a hole of the image.
  for (const offset of [8192, FAR, 16383, 16 << 20]) expect(GONE).toContain(letterOf(fd, offset));
  expect(GONE).toContain(outcomeOf(() => fs.readSync(fd, Buffer.alloc(65536), 0, 65536, 0)));
  for (const offset of [8192, 8193, FAR, FAR + 1]) expect(GONE).toContain(write(fd, 'y', offset, 4096));
}

test.each(['kernel', 'fuse-native'])(
  '%s: the snapshot is deleted: its view is empty, and what was open of it fails',
  (transport) =>
    withScratchPlace(async (place) => {
      const { image, mountpoint, disk } = place;
      place.mount(['--transport', transport]);
      expect(tryFill(disk, 'x', 8192, 8192)).toMatchObject({ status: 0 });
      await whileOpen(place, async (fd) => {
        deleteSnapshot(image, 'monday');
        // Its clusters have other bytes now: at no time may they be seen, nor be mixed with those of the delta.
        runQemuIo(image, ['write -q -P 0x65 0 2M', `write -q -P 0x65 ${FAR} 8M`]);
        const since = performance.now();
        const seen = new Set<string>();
        while (fs.readdirSync(mountpoint).length > 0) {
          for (const offset of [0, 4096, 8192, FAR, FAR + 4096]) seen.add(letterOf(fd, offset));
        }
        expect(performance.now() - since).toBeLessThan(3000);
        for (const letter of seen) expect(['a', 'x', ...GONE]).toContain(letter);
        expectGone(fd);
        expect(outcomeOf(() => fs.fsyncSync(fd))).toMatch(/^(ok|ESTALE|EIO)$/);
        expect(outcomeOf(() => fs.openSync(disk, 'r+'))).toBe('ENOENT');
      });
      await place.unmount();
    }),
);

/** Reads the first megabytes of $1 until that fails, and prints the letters that it has seen; makes $2 when it has seen all. */
const READER = `
const fs = require('node:fs');
const fd = fs.openSync(process.argv[1], 'r');
const seen = new Set();
const bytes = Buffer.alloc(65536);
try {
  for (;;) {
    for (let at = 0; at < 2 << 20; at += bytes.length) {
      fs.readSync(fd, bytes, 0, bytes.length, at);
      for (let index = 0; index < bytes.length; index += 512) seen.add(String.fromCharCode(bytes[index]));
    }
    fs.writeFileSync(process.argv[2], '');
  }
} catch (error) {
  console.log([...seen].sort().join(''), error.errno === -116 ? 'ESTALE' : error.code);
}`;

test('readers that are under way when the snapshot is deleted, and its clusters are written to, see nothing of that', () =>
  withScratchPlace(async (place) => {
    const { folder, image, disk } = place;
    place.mount();
    for (let at = 0; at < 2 << 20; at += 65_536) expect(tryFill(disk, 'x', at, 4096)).toMatchObject({ status: 0 });
    const marks = ['one', 'other'].map((name) => path.join(folder, name));
    const readers = marks.map((mark) => startCommand(process.execPath, ['-e', READER, disk, mark]));
    await waitUntil(() => marks.every((mark) => fs.existsSync(mark)));
    deleteSnapshot(image, 'monday');
    runQemuIo(image, ['write -q -P 0x65 0 2M', 'write -q -P 0x66 4M 8M']);
    for (const said of await Promise.all(readers)) expect(said).toMatch(/^ax (ESTALE|EIO)\n$/);
    await place.unmount();
  }));

test('no byte of another state is ever written next to what a program writes to a snapshot that is deleted meanwhile', () =>
  withScratchPlace(async (place) => {
    const { image, folder } = place;
    const delta = path.join(folder, 'delta');
    place.mount(['--delta', delta]);
    await whileOpen(place, async (fd) => {
      deleteSnapshot(image, 'monday');
      runQemuIo(image, ['write -q -P 0x65 0 2M']);
      // Parts of blocks: the rest of each comes from the snapshot.
      for (let at = 0; at < 2 << 20; at += 8192) write(fd, 'x', at + 100, 100);
    });
    await place.unmount();
    expect(fs.readFileSync(delta).includes('e'.repeat(50), 12_288)).toBe(false);
  }));

test('snapshots that come and go beside it leave the view and its changes as they are', () =>
  withScratchPlace(async (place) => {
    const { image, disk } = place;
    place.mount();
    expect(tryFill(disk, 'x', 8192, 100)).toMatchObject({ status: 0 });
    await whileOpen(place, async (fd) => {
      const { ino } = fs.statSync(disk);
      for (const step of ['wednesday', 'thursday']) {
        createSnapshot(image, step);
        runQemuIo(image, ['write -q -P 0x66 0 2M']);
        expect(write(fd, step[0] ?? '', FAR, 5000)).toBe('ok');
        expect(lettersIn(disk, 8000, 5000)).toBe('axa');
      }
      deleteSnapshot(image, 'tuesday');
      deleteSnapshot(image, 'wednesday');
      runQemuIo(image, ['write -q -P 0x67 0 2M', `write -q -P 0x67 ${FAR} 8M`]);
      await waitUntil(() => !JSON.stringify(infoOf(place)).includes('tuesday'));
      expect(write(fd, 'z', 1)).toBe('ok');
      expect(lettersIn(disk, 0, 9000)).toBe('azaxa');
      expect(lettersIn(disk, FAR, 8 << 20)).toBe('ta');
      expect(fs.statSync(disk).ino).toBe(ino);
      expect(fs.fstatSync(fd).ino).toBe(ino);
    });
    await place.unmount();
  }));

function infoOf({ mountpoint }: ScratchPlace): unknown {
  return JSON.parse(fs.readFileSync(path.join(mountpoint, 'info.json'), 'utf8'));
}

test('current cannot be read or written any more when a machine writes to the image, and is refused while one has it', () =>
  withScratchPlace(async (place) => {
    const { image, disk } = place;
    place.mount([], { state: 'current' });
    expect(tryFill(disk, 'x', 0, 8192)).toMatchObject({ status: 0 });
    await withMachine(image, async (machine) => {
      await whileOpen(place, async (fd) => {
        await machine.io('write -q -P 0x64 0 2M');
        await machine.io(`write -q -P 0x64 ${FAR} 8M`);
        // What a machine may have changed is never mixed with what was written to the view.
        await waitUntil(() => letterOf(fd, FAR) !== 'c');
        for (const offset of [0, 1 << 20, FAR]) expect([...GONE, 'EBUSY']).toContain(letterOf(fd, offset));
        for (const offset of [0, 1, FAR]) expect([...GONE, 'EBUSY']).toContain(write(fd, 'y', offset));
      });
      await place.unmount();
      const { status, stderr } = place.tryMount([], { state: 'current' });
      expect(stderr).toMatch(
        /^qcow2fs: .*disk\.qcow2 is being written to: its current state cannot be read meanwhile, its snapshots can\n$/,
      );
      expect(status).toBe(1);
      // A snapshot of it is another matter.
      place.mount();
      expect(tryFill(disk, 'x', 0, 8192)).toMatchObject({ status: 0 });
      expect(lettersIn(disk, 0, 9000)).toBe('xa');
      await machine.io('write -q -P 0x65 0 2M');
      expect(lettersIn(disk, 0, 9000)).toBe('xa');
      await place.unmount();
    });
  }));

test('an image that is replaced by another file', () =>
  withScratchPlace(async (place) => {
    const { image, folder, disk } = place;
    place.mount();
    expect(tryFill(disk, 'x', 8192, 8192)).toMatchObject({ status: 0 });
    await whileOpen(place, async (fd) => {
      const other = makeLiveImage(path.join(folder, 'other.qcow2'));
      runQemuIo(other, ['write -q -P 0x68 0 2M']);
      deleteSnapshot(other, 'monday');
      createSnapshot(other, 'monday');
      fs.renameSync(other, image);
      await waitUntil(() => GONE.includes(letterOf(fd, 0)) || fs.readdirSync(place.mountpoint).length === 0);
      expectGone(fd);
    });
    await place.unmount();
    await waitUntilGone(place.mountpoint);
  }));
