/** Deltas that may not be as large as they have to be: by `ulimit -f`, or by the file system. */

import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { MIB } from '../mounted/live.ts';
import { createImage } from '../oracle/qemu.ts';
import { withExt4 } from '../overlay/overlay-place.ts';
import { QCOW2FS } from '../support/mounted-image.ts';
import { tryCommand } from '../support/run-command.ts';
import { lettersIn, tryFill, withScratchPlace } from './scratch-place.ts';

const LIMIT_BYTES = 3 * MIB;

const limited = (...args: readonly string[]) =>
  tryCommand('prlimit', [`--fsize=${LIMIT_BYTES}`, QCOW2FS, 'scratch', ...args]);

test('ulimit -f that is lower than the disk is named', () =>
  withScratchPlace(async ({ folder, image, mountpoint }) => {
    const delta = path.join(folder, 'delta');
    for (const options of [[], ['--delta', delta]]) {
      const { status, stderr } = limited(...options, image, 'monday', mountpoint);
      expect(stderr).toMatch(
        /^qcow2fs: the delta \S+ .*would be a sparse file of \d+ bytes, as large as the disk, but this process may write files of 3145728 bytes at most: raise that limit \(ulimit -f\)\n$/,
      );
      expect(status).toBe(1);
      expect(fs.existsSync(delta)).toBe(false);
    }
  }));

test('a delta that was made without ulimit -f fails only writes behind it, and says why', () =>
  withScratchPlace(async (place) => {
    const { folder, image, mountpoint, disk } = place;
    const options = ['--delta', path.join(folder, 'delta')];
    place.mount(options);
    await place.unmount();
    const started = limited('--log-file', path.join(folder, 'log'), ...options, image, 'monday', mountpoint);
    expect(started).toEqual({ status: 0, stdout: '', stderr: '' });
    expect(tryFill(disk, 'x', 0, MIB)).toMatchObject({ status: 0 });
    expect(tryFill(disk, 'y', 4 * MIB, 4096).stderr).toContain('No space left on device');
    expect(lettersIn(disk, 0, 2 * MIB)).toBe('xa');
    expect(lettersIn(disk, 4 * MIB, 4096)).toBe('0');
    expect(place.log()).toEqual([
      expect.stringMatching(
        /^qcow2fs: the delta \S+ cannot be written to its end, as this process may write files of 3145728 bytes at most: raise that limit \(ulimit -f\)$/,
      ),
    ]);
    await place.unmount();
  }));

test('a file system without files of that size is named', () =>
  withScratchPlace(async ({ folder, mountpoint }) =>
    withExt4(folder, 16 * MIB, (mounted) => {
      const image = path.join(folder, 'large.qcow2');
      // Blocks of an ext4 of this size have 1 KiB, and a file 2^32 of them at most.
      createImage(image, { sizeBytes: 5 * 2 ** 40 });
      const args = ['scratch', '--delta', path.join(mounted, 'delta'), image, 'current', mountpoint];
      const { status, stderr } = tryCommand(QCOW2FS, args);
      expect(stderr).toMatch(/^qcow2fs: .* which its file system cannot have \(ext4 ends at 16 TiB\): [^\n]*\n$/);
      expect(status).toBe(1);
    }),
  ));
