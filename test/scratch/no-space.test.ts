/** Deltas that have no more room: by their own limit, and by that of the file system they are on. */

import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { MIB } from '../mounted/live.ts';
import { QCOW2FS } from '../support/mounted-image.ts';
import { startCommand } from '../support/run-async.ts';
import { runCommand, tryCommand } from '../support/run-command.ts';
import { lettersIn, punch, type ScratchPlace, tryFill, withScratchPlace } from './scratch-place.ts';

/** A file system of its own for TMPDIR, which is gone afterwards. */
async function withTmpfs({ folder }: ScratchPlace, options: string, body: (folder: string) => Promise<void>) {
  const tmpfs = path.join(folder, 'tmpfs');
  fs.mkdirSync(tmpfs);
  runCommand('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', tmpfs]);
  try {
    await body(tmpfs);
  } finally {
    tryCommand('umount', ['-l', tmpfs]);
  }
}

/** What the view has at `offset` is all of the base, or all of what was written, up to where the writes failed. */
function expectFull({ disk }: ScratchPlace, written: number): void {
  expect(lettersIn(disk, 0, written)).toBe('x');
  expect(lettersIn(disk, written, 2 * MIB - written)).toBe('a');
  expect(lettersIn(disk, 2 * MIB, MIB)).toBe('0');
}

test.each(['kernel', 'fuse-native'])(
  '%s: --max-delta ends writes with ENOSPC, says so, and nothing wrong is read',
  (transport) =>
    withScratchPlace(async (place) => {
      const { disk } = place;
      place.mount(['--transport', transport, '--max-delta', '1M']);
      expect(tryFill(disk, 'x', 0, 2 * MIB)).toMatchObject({
        status: 1,
        stderr: `dd: error writing '${disk}': No space left on device\n`,
      });
      expectFull(place, MIB);
      expect(tryFill(disk, 'y', 3 * MIB + 5, 1).stderr).toContain('No space left on device');
      expect(lettersIn(disk, 3 * MIB, 4096)).toBe('0');
      // What is in the delta can be written all the same.
      expect(tryFill(disk, 'z', 100, 9000)).toMatchObject({ status: 0 });
      expect(lettersIn(disk, 0, MIB)).toBe('xzx');
      const message = /^qcow2fs: the delta in .* is full: it may take 1048576 bytes; allow more with --max-delta/;
      // Once for each thread that met it: a write of this length is served by several.
      expect([...new Set(place.log())]).toEqual([expect.stringMatching(message)]);
      await place.unmount();
    }),
);

test('writers in several threads have one line each in the log, and one of the writes is not mixed with another', () =>
  withScratchPlace(async (place) => {
    place.mount(['--max-delta', '1M']);
    const script =
      'tr "\\0" "$1" </dev/zero | dd of="$0" bs=4k count=200 conv=notrunc iflag=fullblock seek="$2" ; true';
    const fill = (letter: string, at: number) => startCommand('sh', ['-c', script, place.disk, letter, `${at}`]);
    await Promise.all([0, 1, 2, 3, 4, 5].map((each) => fill('uvwxyz'.charAt(each), each * 1000)));
    const seen = [0, 1, 2, 3, 4, 5].map((each) => {
      const letters = lettersIn(place.disk, each * 4_096_000, 200 * 4096);
      // Who comes last may find no room at all.
      expect(letters).toMatch(new RegExp(`^${'uvwxyz'.charAt(each)}?${each === 0 ? 'a' : '0'}?$`));
      return letters;
    });
    expect(seen.join('')).toMatch(/[u-z]/);
    expect(new Set(place.log()).size).toBe(1);
    expect(fs.statSync(place.disk).blocks * 512).toBeLessThanOrEqual(11 * MIB);
    await place.unmount();
  }));

test('a hole that is punched is room for other blocks', () =>
  withScratchPlace(async (place) => {
    const { disk } = place;
    place.mount(['--max-delta', '1M']);
    expect(tryFill(disk, 'x', 0, MIB)).toMatchObject({ status: 0 });
    expect(tryFill(disk, 'y', 4 * MIB, 4096)).toMatchObject({ status: 1 });
    punch(disk, 64 * 1024, 128 * 1024);
    expect(tryFill(disk, 'y', 4 * MIB, 128 * 1024)).toMatchObject({ status: 0 });
    expect(tryFill(disk, 'z', 5 * MIB, 1)).toMatchObject({ status: 1 });
    expect(lettersIn(disk, 0, MIB + 1)).toBe('x0xa');
    expect(lettersIn(disk, 4 * MIB - 1, 128 * 1024 + 2)).toBe('0y0');
    await place.unmount();
  }));

test('a folder for temporary files that is full ends writes with ENOSPC, and nothing wrong is read', () =>
  withScratchPlace((place) =>
    withTmpfs(place, 'size=1m', async (tmpfs) => {
      const { disk } = place;
      place.mount([], { env: { TMPDIR: tmpfs } });
      expect(tryFill(disk, 'x', 0, 2 * MIB).stderr).toContain('No space left on device');
      expectFull(place, MIB);
      expect(tryFill(disk, 'x', 100, 900 * 1024)).toMatchObject({ status: 0 });
      expect(place.log()).toEqual([
        expect.stringMatching(
          /^qcow2fs: the delta in \S+ cannot grow, its file system has no more space for it \(ENOSPC\)/,
        ),
      ]);
      punch(disk, 0, MIB);
      expect(tryFill(disk, 'y', 8 * MIB, 512 * 1024)).toMatchObject({ status: 0 });
      expect(lettersIn(disk, 0, 2 * MIB)).toBe('0a');
      expect(lettersIn(disk, 8 * MIB - 1, 512 * 1024 + 2)).toBe('0y0');
      await place.unmount();
    }),
  ));

test('a folder that somebody else fills ends writes in the middle, which leaves what was there', () =>
  withScratchPlace((place) =>
    withTmpfs(place, 'size=2m', async (tmpfs) => {
      const { disk } = place;
      place.mount([], { env: { TMPDIR: tmpfs } });
      fs.writeFileSync(`${tmpfs}/other`, Buffer.alloc(2 * MIB - 40 * 1024));
      // One request of 128 KiB, of which a part fits.
      const fd = fs.openSync(disk, 'r+');
      expect(() => fs.writeSync(fd, Buffer.alloc(128 * 1024, 'x'), 0, 128 * 1024, 1000)).toThrow(/ENOSPC/);
      fs.closeSync(fd);
      expect(lettersIn(disk, 0, 2 * MIB)).toBe('a');
      // The part that fitted is given back.
      expect(fs.statfsSync(tmpfs).bavail * fs.statfsSync(tmpfs).bsize).toBe(40 * 1024);
      fs.rmSync(`${tmpfs}/other`);
      expect(tryFill(disk, 'x', 1000, 128 * 1024)).toMatchObject({ status: 0 });
      expect(lettersIn(disk, 0, 2 * MIB)).toBe('axa');
      await place.unmount();
    }),
  ));

test('a folder for temporary files that is missing or read-only is named', () =>
  withScratchPlace((place) =>
    withTmpfs(place, 'ro', async (tmpfs) => {
      for (const [folder, code] of [
        [tmpfs, 'EROFS'],
        [`${tmpfs}/missing`, 'ENOENT'],
      ] as const) {
        const { status, stderr } = place.tryMount([], { env: { TMPDIR: folder } });
        expect(status).toBe(1);
        expect(stderr).toMatch(
          new RegExp(
            `^qcow2fs: no file for what is written can be made in the folder ${folder}: ${code}: .*; set TMPDIR to .*\n$`,
          ),
        );
      }
      expect(fs.readdirSync(place.mountpoint)).toEqual([]);
    }),
  ));

test('what a kept delta has taken before its file system was full is there again', () =>
  withScratchPlace((place) =>
    withTmpfs(place, 'size=1m', async (tmpfs) => {
      const { disk } = place;
      const options = ['--delta', `${tmpfs}/delta`];
      place.mount(options);
      expect(tryFill(disk, 'x', 0, 2 * MIB).stderr).toContain('No space left on device');
      const written = lengthOf(disk, 'x');
      expect(written).toBeGreaterThan(MIB / 2);
      await place.unmount();
      place.mount(options);
      expect(lengthOf(disk, 'x')).toBe(written);
      await place.unmount();
    }),
  ));

/** Runs `body` with a folder on a disk that has less space than its file system thinks: it takes what it then cannot keep. */
async function withFailingDisk(place: ScratchPlace, body: (mounted: string) => void): Promise<void> {
  await withTmpfs(place, 'size=4m', async (tmpfs) => {
    const [small, mounted] = [`${tmpfs}/small.ext4`, path.join(place.folder, 'small')];
    fs.mkdirSync(mounted);
    runCommand('truncate', ['-s', '32M', small]);
    runCommand('mkfs.ext4', ['-q', '-O', '^has_journal', small]);
    runCommand('mount', ['-o', 'loop', small, mounted]);
    try {
      body(mounted);
    } finally {
      runCommand('umount', [mounted]);
    }
  });
}

test('umount tells what could not be kept, and fails', () =>
  withScratchPlace((place) =>
    withFailingDisk(place, (mounted) => {
      const delta = `${mounted}/delta`;
      place.mount(['--delta', delta]);
      expect(tryFill(place.disk, 'x', 0, 8 * MIB)).toMatchObject({ status: 0 });
      const lost = new RegExp(
        `the delta ${delta} cannot be kept: [^\n]+; what was written since the last fsync\\(2\\) is not in ${delta}$`,
      );
      const { status, stderr } = tryCommand(QCOW2FS, ['umount', place.mountpoint]);
      expect({ status, stderr: stderr.trimEnd() }).toEqual({ status: 1, stderr: expect.stringMatching(lost) });
      expect(stderr).toContain(`${place.mountpoint} is unmounted, but`);
      expect(place.log()).toEqual([expect.stringMatching(lost)]);
    }),
  ));

test.each([true, false])(
  'what a failed disk may have lost is neither read nor exported (told by fsync: %s)',
  (isTold) =>
    withScratchPlace((place) =>
      withFailingDisk(place, (mounted) => {
        const [delta, exported] = [`${mounted}/delta`, path.join(place.folder, 'exported.qcow2')];
        place.mount(['--delta', delta, '--export', exported, '--flat']);
        expect(tryFill(place.disk, 'x', 0, 8 * MIB)).toMatchObject({ status: 0 });
        const synced = tryCommand('sync', isTold ? ['-d', place.disk] : ['-f', delta]);
        if (isTold) {
          expect(synced).toMatchObject({ status: 1, stderr: expect.stringContaining('Input/output error') });
          expect(() => lettersIn(place.disk, 0, MIB)).toThrow('EIO');
        }
        const { status, stderr } = tryCommand(QCOW2FS, ['umount', place.mountpoint]);
        expect(status).toBe(1);
        expect(stderr).toMatch(
          new RegExp(
            `${exported} was not exported: [^\n]*its disk has failed[^\n]*what was written since the last fsync`,
          ),
        );
        expect([fs.existsSync(exported), fs.existsSync(delta)]).toEqual([false, true]);
      }),
    ),
);

/** How many bytes of a file are this letter, from its start on. */
function lengthOf(file: string, letter: string): number {
  return fs.readFileSync(file).findIndex((byte) => byte !== letter.charCodeAt(0));
}
