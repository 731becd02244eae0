/** A machine whose disk moves from an image to the backing file of this image, under the mount of the image. */

import path from 'node:path';
import { expect, test } from 'vitest';
import { waitUntil, waitUntilGone } from '../daemon/mounting.ts';
import {
  currentDisk,
  expectFollowed,
  FAR,
  letterAt,
  letterOf,
  readImageJson,
  snapshotDisk,
  whileOpen,
  withLiveImage,
} from './live.ts';
import { type Machine, withMachine } from './live-machine.ts';

/** Writes what the overlay of the machine's disk holds to the backing file, which is the disk from then on. */
async function commit({ run }: Machine): Promise<void> {
  await run('block-commit', { device: 'disk', 'job-id': 'commit' });
  const jobs = async () => (await run('query-block-jobs')) as { ready: boolean }[];
  for (;;) {
    const [job] = await jobs();
    if (job === undefined || job.ready) break;
  }
  await run('block-job-complete', { device: 'commit' });
  while ((await jobs()).length > 0);
}

test('nothing of what stands on a file is read while a machine has that file as its disk, and all of it afterwards', () =>
  withLiveImage((live) =>
    withMachine(live.image, async (machine) => {
      const { image: base, mountpoint } = live;
      const image = path.join(live.folder, 'overlay.qcow2');
      await machine.run('blockdev-snapshot-sync', { device: 'disk', 'snapshot-file': image, format: 'qcow2' });
      await machine.run('blockdev-snapshot-internal-sync', { device: 'disk', name: 'night' });
      live.mount([], [image]);
      const night = snapshotDisk(mountpoint, 'night');
      // The machine writes to the overlay so far.
      expect(letterAt(night, 0)).toBe('c');
      expect(letterAt(currentDisk(mountpoint), 0)).toBe('EBUSY');
      await machine.io('write -q -P 0x64 0 2M');
      await whileOpen(night, async (fd) => {
        expect(letterOf(fd, FAR)).toBe('c');
        await commit(machine);
        await machine.io(`write -q -P 0x65 ${FAR} 8M`);
        await waitUntil(() => letterAt(night, 0) === 'EBUSY');
        expect(letterOf(fd, FAR + (4 << 20))).toBe('ESTALE');
        expect(letterAt(currentDisk(mountpoint), 0)).toBe('EBUSY');
        const lowerWriter = { file: base, pid: machine.pid, command: 'qemu-system-x86' };
        expect(readImageJson(mountpoint)).toMatchObject({ lowerWriter });
        expect(live.log()).toContain(`${base} is written to by qemu-system-x86 (process ${machine.pid})`);
        await machine.quit();
      });
      await waitUntil(() => letterAt(night, FAR) === 'e');
      expect(live.log()).toContain(`${image} stands on no file any more that is written to`);
      await expectFollowed({ ...live, image });
      live.unmount();
      await waitUntilGone(mountpoint);
    }),
  ));
