/** What QEMU's own tools do to an image while it is mounted and its files are open. */

import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { waitUntil } from '../daemon/mounting.ts';
import { createImage } from '../oracle/qemu.ts';
import { runCommand } from '../support/run-command.ts';
import {
  currentDisk,
  DISK_BYTES,
  errorOf,
  expectFollowed,
  FAR,
  fillDisk,
  type LiveMount,
  letterAt,
  letterOf,
  MIB,
  makeLiveImage,
  snapshotDisk,
  whileOpen,
  withLiveImage,
  withLiveMount,
} from './live.ts';

type Tool = (live: LiveMount) => void;

const qemuImg =
  (...args: readonly string[]): Tool =>
  ({ image }) =>
    void runCommand('qemu-img', [...args, image]);

/** Leaves clusters that nothing refers to, for `check -r all`: snapshots that the table does not count any more. */
const loseSnapshots: Tool = ({ image }) => {
  const fd = fs.openSync(image, 'r+');
  try {
    // nb_snapshots.
    fs.writeSync(fd, Buffer.from([0, 0, 0, 1]), 0, 4, 60);
  } finally {
    fs.closeSync(fd);
  }
};

const TOOLS: Readonly<Record<string, readonly Tool[]>> = {
  'qemu-img snapshot -c': [qemuImg('snapshot', '-c', 'wednesday')],
  'qemu-img snapshot -c with a name in need of an escape': [qemuImg('snapshot', '-c', '../a/b % ü')],
  'qemu-img snapshot -d': [qemuImg('snapshot', '-d', 'tuesday')],
  'qemu-img snapshot -a': [qemuImg('snapshot', '-a', 'tuesday')],
  'qemu-img snapshot -d and -c of the same name': [
    qemuImg('snapshot', '-d', 'tuesday'),
    qemuImg('snapshot', '-c', 'tuesday'),
  ],
  'a snapshot that is renamed, by making it again': [
    qemuImg('snapshot', '-a', 'tuesday'),
    qemuImg('snapshot', '-c', 'renamed'),
    qemuImg('snapshot', '-d', 'tuesday'),
  ],
  'qemu-img resize to more': [({ image }) => resize(image, DISK_BYTES + 5 * MIB)],
  'qemu-img resize to less': [({ image }) => resize(image, 25 * MIB)],
  'qemu-img resize, and snapshot -a back': [
    ({ image }) => resize(image, 1024 * MIB),
    qemuImg('snapshot', '-c', 'long'),
    qemuImg('snapshot', '-a', 'tuesday'),
  ],
  'qemu-img amend -o compat': [qemuImg('amend', '-o', 'compat=0.10'), qemuImg('amend', '-o', 'compat=1.1')],
  'qemu-img amend -o lazy_refcounts': [qemuImg('amend', '-o', 'lazy_refcounts=on')],
  'qemu-img check -r all': [loseSnapshots, ({ image }) => repair(image)],
  'qemu-io write': [({ image }) => fillDisk(image, 'd')],
};

function resize(image: string, sizeBytes: number): void {
  runCommand('qemu-img', ['resize', '-q', '--shrink', image, String(sizeBytes)]);
}

function repair(image: string): void {
  runCommand('qemu-img', ['check', '-q', '-r', 'all', image]);
}

describe('is followed, and keeps the files of monday open', () => {
  test.each(Object.keys(TOOLS))('%s', (name) =>
    withLiveMount(async (live) => {
      const { mountpoint } = live;
      await whileOpen(snapshotDisk(mountpoint, 'monday'), (monday) =>
        whileOpen(currentDisk(mountpoint), async (current) => {
          expect([letterOf(monday, 0), letterOf(current, 0)]).toEqual(['a', 'c']);
          const { ino } = fs.fstatSync(monday);
          for (const tool of TOOLS[name] ?? []) {
            tool(live);
            await expectFollowed(live);
          }
          expect(letterOf(monday, FAR)).toBe('a');
          expect(fs.statSync(snapshotDisk(mountpoint, 'monday')).ino).toBe(ino);
          expect(['c', 'ESTALE']).toContain(letterOf(current, FAR));
        }),
      );
    }),
  );
});

/** The text of image.json; undefined if it was exchanged for another one between the opening and the reading. */
function readDescription(mountpoint: string): string | undefined {
  const fd = fs.openSync(path.join(mountpoint, 'image.json'), 'r');
  try {
    let text: string | undefined;
    const error = errorOf(() => {
      text = fs.readFileSync(fd, 'utf8');
    });
    expect([undefined, 'ESTALE']).toContain(error);
    return text;
  } finally {
    fs.closeSync(fd);
  }
}

/** QEMU applies no snapshot, not even in a copy, while there are bitmaps: so what they are compared with is made before. */
test('qemu-img bitmap --add is followed in image.json, and changes nothing else', () =>
  withLiveMount(async (live) => {
    const { image, mountpoint } = live;
    const bitmaps = () => JSON.parse(readDescription(mountpoint) ?? '{}').bitmaps ?? [];
    const { ino } = fs.statSync(snapshotDisk(mountpoint, 'monday'));
    expect(bitmaps()).toEqual([]);
    runCommand('qemu-img', ['bitmap', '--add', image, 'changes']);
    await waitUntil(() => bitmaps()[0]?.name === 'changes');
    expect(letterAt(snapshotDisk(mountpoint, 'monday'), FAR)).toBe('a');
    expect(fs.statSync(snapshotDisk(mountpoint, 'monday')).ino).toBe(ino);
    expect(letterAt(currentDisk(mountpoint), FAR)).toBe('c');
    runCommand('qemu-img', ['bitmap', '--remove', image, 'changes']);
    await waitUntil(() => bitmaps().length === 0);
    await expectFollowed(live);
  }));

describe('an image with a backing file', () => {
  /** `disk.qcow2` on `base.qcow2`; `other.qcow2` has the same bytes as the latter. */
  const withOverlay = (body: (live: LiveMount & { base: string; other: string }) => Promise<void>) =>
    withLiveImage(async (live) => {
      const [base, other] = ['base.qcow2', 'other.qcow2'].map((name) => makeLiveImage(path.join(live.folder, name)));
      if (base === undefined || other === undefined) return;
      fs.rmSync(live.image);
      createImage(live.image, { sizeBytes: DISK_BYTES, backing: { name: 'base.qcow2', format: 'qcow2' } });
      runCommand('qemu-io', ['-c', 'write -q -P 100 0 1M', live.image]);
      runCommand('qemu-img', ['snapshot', '-c', 'monday', live.image]);
      live.mount();
      await body({ ...live, base, other });
      live.unmount();
    });

  test.each([
    ['rebase', '-b', 'other.qcow2', '-F', 'qcow2'],
    ['rebase', '-u', '-b', 'other.qcow2', '-F', 'qcow2'],
    ['rebase', '-b', ''],
    ['rebase', '-u', '-b', ''],
  ])('is followed by qemu-img %s %s %s', (...args) =>
    withOverlay(async (live) => {
      await whileOpen(snapshotDisk(live.mountpoint, 'monday'), async (monday) => {
        expect(letterOf(monday, 0)).toBe('d');
        runCommand('qemu-img', [...args, live.image], { cwd: live.folder });
        await expectFollowed(live);
        expect(['c', 'ESTALE']).toContain(letterOf(monday, FAR));
      });
    }),
  );

  test('is followed by qemu-img commit, which empties it', () =>
    withOverlay(async (live) => {
      runCommand('qemu-img', ['commit', '-q', live.image]);
      await expectFollowed(live);
      expect(letterAt(currentDisk(live.mountpoint), 0)).toBe('d');
    }));
});
