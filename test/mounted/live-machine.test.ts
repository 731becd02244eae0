/** A mount beside a virtual machine that writes to the image. */

import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { waitUntil, waitUntilGone } from '../daemon/mounting.ts';
import { runAsOrdinaryUser, tryAsOrdinaryUser } from '../support/ordinary-user.ts';
import { installForUsers, withUserPlace } from '../support/user-place.ts';
import {
  currentDisk,
  errorOf,
  expectFollowed,
  FAR,
  type LiveMount,
  letterAt,
  letterOf,
  makeLiveImage,
  readImageJson,
  snapshotDisk,
  waitUntilFollowed,
  whileOpen,
  withLiveImage,
  withLiveMount,
} from './live.ts';
import { withMachine } from './live-machine.ts';

describe.each(['kernel', 'fuse-native'])('beside a virtual machine, through %s', (transport) => {
  const options = ['--transport', transport];

  test('that has started before, an image is mounted, and its snapshots can be read', () =>
    withLiveImage(async (live) => {
      await withMachine(live.image, async (machine) => {
        await machine.io('write -q -P 100 0 32M');
        live.mount(options);
        expectSnapshots(live);
        expect(letterAt(currentDisk(live.mountpoint), 0)).toBe('EBUSY');
        await machine.io('write -q -P 101 0 32M');
        expectSnapshots(live);
        await machine.quit();
      });
      await expectFollowed(live);
      expect(letterAt(currentDisk(live.mountpoint), FAR)).toBe('e');
    }));

  test('that starts while files are open, those of snapshots go on', () =>
    withLiveMount(async (live) => {
      const { image, mountpoint } = live;
      await whileOpen(snapshotDisk(mountpoint, 'monday'), async (monday) => {
        await withMachine(image, async (machine) => {
          await machine.io('write -q -P 100 0 32M');
          await machine.io('flush');
          expect(letterOf(monday, 0)).toBe('a');
          expect(letterOf(monday, FAR)).toBe('a');
          await machine.run('blockdev-snapshot-internal-sync', { device: 'disk', name: 'wednesday' });
          await waitUntilFollowed(mountpoint, image);
          expect(letterAt(snapshotDisk(mountpoint, 'wednesday'), FAR)).toBe('d');
          await machine.run('blockdev-snapshot-delete-internal-sync', { device: 'disk', name: 'tuesday' });
          await waitUntil(() => !fs.existsSync(path.join(mountpoint, 'snapshots/tuesday')));
          expect(letterOf(monday, FAR + 4096)).toBe('a');
          await machine.quit();
        });
        await expectFollowed(live);
        expect(letterOf(monday, 1)).toBe('a');
      });
    }, options));

  test('the current state cannot be opened, and image.json and the log say why', () =>
    withLiveMount(async (live) => {
      const { image, mountpoint } = live;
      const imageJson = () => readImageJson(mountpoint);
      expect(imageJson().writer).toBeNull();
      await withMachine(image, async ({ pid, quit }) => {
        await waitUntil(() => letterAt(currentDisk(mountpoint), 0) === 'EBUSY');
        expect(errorOf(() => fs.readFileSync(path.join(mountpoint, 'current/info.json')))).toBe('EBUSY');
        await waitUntil(() => imageJson().writer !== null);
        expect(imageJson().writer).toEqual({ pid, command: 'qemu-system-x86' });
        expect(live.log()).toContain(`${image} is written to by qemu-system-x86 (process ${pid})`);
        await quit();
      });
      await waitUntil(() => imageJson().writer === null);
      expect(letterAt(currentDisk(mountpoint), 0)).toBe('c');
      expect(fs.readFileSync(path.join(mountpoint, 'current/info.json'), 'utf8')).toContain('{');
      expect(live.log()).toContain(`${image} is not written to any more`);
    }, options));
});

function expectSnapshots({ mountpoint }: LiveMount): void {
  for (const [name, letter] of Object.entries({ monday: 'a', tuesday: 'b' })) {
    for (const offset of [0, FAR]) expect(letterAt(snapshotDisk(mountpoint, name), offset), name).toBe(letter);
  }
}

test.each(['cache=writeback', 'cache=none'])(
  'the new current state can be read right after the end of a machine, as an open waits for it: %s',
  (cache) =>
    withLiveMount(async (live) => {
      for (const letter of ['d', 'e', 'f']) {
        await withMachine(
          live.image,
          async (machine) => {
            await waitUntil(() => letterAt(currentDisk(live.mountpoint), 0) === 'EBUSY');
            await machine.io(`write -q -P ${letter.charCodeAt(0)} 0 32M`);
            await machine.quit();
          },
          `,${cache}`,
        );
        expect(letterAt(currentDisk(live.mountpoint), FAR)).toBe(letter);
      }
      await expectFollowed(live);
    }),
);

test('a file of the current state that is open when a machine starts to write fails with ESTALE, then and afterwards', () =>
  withLiveMount(({ image, mountpoint }) =>
    whileOpen(currentDisk(mountpoint), async (current) => {
      expect(letterOf(current, 0)).toBe('c');
      await withMachine(image, async (machine) => {
        await waitUntil(() => letterAt(currentDisk(mountpoint), 0) === 'EBUSY');
        await machine.io('write -q -P 100 0 32M');
        expect(letterOf(current, FAR)).toBe('ESTALE');
        await machine.quit();
      });
      expect(letterAt(currentDisk(mountpoint), FAR)).toBe('d');
      expect(letterOf(current, FAR)).toBe('ESTALE');
    }),
  ));

test('a machine that wrote nothing leaves open files of the current state as they were', () =>
  withLiveMount(({ image, mountpoint }) =>
    whileOpen(currentDisk(mountpoint), async (current) => {
      const { ino } = fs.fstatSync(current);
      await withMachine(image, async (machine) => {
        await waitUntil(() => letterAt(currentDisk(mountpoint), 0) === 'EBUSY');
        expect(letterOf(current, FAR)).toBe('ESTALE');
        await machine.quit();
      });
      await waitUntil(() => letterAt(currentDisk(mountpoint), 0) === 'c');
      expect(letterOf(current, FAR)).toBe('c');
      expect(fs.statSync(currentDisk(mountpoint)).ino).toBe(ino);
    }),
  ));

describe.each([['--live-current'], ['-o', 'live-current']])('%s %s', (...options) => {
  test('lets the current state be read while a machine writes, as it is in the image', () =>
    withLiveMount(async (live) => {
      const { image, mountpoint } = live;
      await whileOpen(currentDisk(mountpoint), (current) =>
        withMachine(image, async (machine) => {
          await waitUntil(() => live.log().includes('its current state is read as it is, and may be inconsistent'));
          for (const letter of ['d', 'e', 'f']) {
            await machine.io(`write -q -P ${letter.charCodeAt(0)} 0 32M`);
            await machine.io('flush');
            for (const offset of [0, FAR]) {
              expect(letterOf(current, offset)).toBe(letter);
              expect(letterAt(currentDisk(mountpoint), offset)).toBe(letter);
            }
          }
          await machine.quit();
        }),
      );
      await expectFollowed(live);
    }, options));
});

test('an ordinary user is told as much of a machine of root as may be seen, and reads the new state afterwards', () =>
  withUserPlace(
    (image) => void makeLiveImage(image),
    async ({ folder, image, mountpoint }) => {
      const launcher = installForUsers(path.join(folder, 'package'));
      runAsOrdinaryUser([launcher, 'mount', image, mountpoint]);
      const tryToRead = (file: string) => tryAsOrdinaryUser(['head', '-c', '1', file]);
      await withMachine(image, async (machine) => {
        await waitUntil(() => tryToRead(currentDisk(mountpoint)).stderr.includes('Device or resource busy'));
        let text = '';
        // It may just be exchanged: ESTALE.
        await waitUntil(() => {
          text = tryAsOrdinaryUser(['cat', path.join(mountpoint, 'image.json')]).stdout;
          return text !== '';
        });
        expect(JSON.parse(text).writer).toEqual({ pid: null, command: null });
        await machine.io('write -q -P 100 0 32M');
        expect(tryToRead(snapshotDisk(mountpoint, 'monday')).stdout).toBe('a');
        await machine.quit();
      });
      expect(tryToRead(currentDisk(mountpoint))).toEqual({ status: 0, stdout: 'd', stderr: '' });
      runAsOrdinaryUser([launcher, 'umount', mountpoint]);
      await waitUntilGone(mountpoint);
    },
  ));
