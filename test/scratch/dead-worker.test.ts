/** A worker thread that ends while it writes: others go on. */

import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect, test } from 'vitest';
import { mountInBackground } from '../../src/daemon/start-daemon.ts';
import { daemonOf, waitUntilGone } from '../daemon/mounting.ts';
import { startCommand } from '../support/run-async.ts';
import { lettersIn, punch, type ScratchPlace, tryFill, withScratchPlace } from './scratch-place.ts';

const DAEMON = pathToFileURL(path.join(import.meta.dirname, 'fixture/daemon/main.js'));
const MAX_DELTA_BYTES = 1 << 20;

/** Mounts `monday` with such workers; `delta` is kept. */
async function mountMortal({ folder, image, mountpoint }: ScratchPlace, delta: string): Promise<void> {
  const scratch = { state: 'monday', maxDeltaBytes: MAX_DELTA_BYTES, deltaPath: delta };
  const logFile = path.join(folder, 'log');
  await mountInBackground(
    { imagePaths: [image], mountpoint, directIo: false, transport: 'kernel', logFile, scratch },
    { daemonEntry: DAEMON },
  );
}

test('a worker that dies with the lock costs its caller an error, and the view is all of it or nothing', () =>
  withScratchPlace(async (place) => {
    const { disk, folder } = place;
    const delta = path.join(folder, 'delta');
    await mountMortal(place, delta);
    expect(tryFill(disk, 'x', 0, 16_384)).toMatchObject({ status: 0 });
    const script =
      'tr "\\0" y </dev/zero | dd of="$0" bs=4k count=24 seek="$1" conv=notrunc iflag=fullblock status=none';
    for (let round = 0; round < 4; round++) {
      const others = [1, 2, 3].map((each) => startCommand('sh', ['-c', script, disk, `${512 + each * 100}`]));
      const fd = fs.openSync(disk, 'r+');
      // Over blocks of the view, and over those of the snapshot.
      for (const offset of [4096, 40_960]) {
        const bytes = Buffer.alloc(8192, 'DIE');
        expect(() => fs.writeSync(fd, bytes, 0, bytes.length, offset)).toThrow(/EIO/);
      }
      fs.fsyncSync(fd);
      fs.closeSync(fd);
      await Promise.all(others);
      expect(lettersIn(disk, 0, 100_000)).toBe('xa');
    }
    // What was taken by writes that were never finished is free: the four blocks of x and those of y are all there is.
    const used = 16_384 + 3 * 24 * 4096;
    expect(tryFill(disk, 'z', 4 << 20, MAX_DELTA_BYTES - used)).toMatchObject({ status: 0 });
    expect(tryFill(disk, 'z', 8 << 20, 1)).toMatchObject({ status: 1 });
    punch(disk, 4 << 20, 4096);
    expect(tryFill(disk, 'z', 8 << 20, 1)).toMatchObject({ status: 0 });
    expect(place.log().filter((line) => line.includes('exit code 9; its request failed with EIO'))).not.toEqual([]);
    await place.unmount();
    place.mount(['--delta', delta]);
    expect(lettersIn(disk, 0, 100_000)).toBe('xa');
    expect(lettersIn(disk, 612 * 4096, 24 * 4096)).toBe('y');
    await place.unmount();
  }));

test('a worker that dies while it syncs: the next sync keeps all', () =>
  withScratchPlace(async (place) => {
    const { disk, folder } = place;
    const delta = path.join(folder, 'delta');
    await mountMortal(place, delta);
    expect(tryFill(disk, 'x', 5000, 100_000)).toMatchObject({ status: 0 });
    const fd = fs.openSync(disk, 'r+');
    for (let round = 0; round < 3; round++) {
      fs.writeFileSync(`${delta}.die`, '');
      expect(() => fs.fsyncSync(fd)).toThrow(/EIO/);
      fs.rmSync(`${delta}.die`);
      fs.writeSync(fd, Buffer.from('y'), 0, 1, 50_000 + round);
      fs.fsyncSync(fd);
    }
    fs.closeSync(fd);
    // What is in the file now is all there is.
    process.kill(daemonOf(place.mountpoint), 'SIGKILL');
    await waitUntilGone(place.mountpoint);
    place.mount(['--delta', delta]);
    expect(lettersIn(disk, 0, 200_000)).toBe('axyxa');
    await place.unmount();
  }));
