/** The tree follows the snapshots, and what did not change goes on. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { waitUntil, waitUntilGone } from '../daemon/mounting.ts';
import { createSnapshot, deleteSnapshot, listSnapshots } from '../oracle/qemu.ts';
import { ordinaryUser, runAsOrdinaryUser } from '../support/ordinary-user.ts';
import { runCommand } from '../support/run-command.ts';
import { installForUsers, withUserPlace } from '../support/user-place.ts';
import {
  errorOf,
  expectFollowed,
  FAR,
  fillDisk,
  letterAt,
  letterOf,
  MIB,
  makeLiveImage,
  readImageJson,
  snapshotDisk,
  waitUntilFollowed,
  whileOpen,
  withLiveMount,
} from './live.ts';

describe.each(['kernel', 'fuse-native'])('through %s', (transport) => {
  const options = ['--transport', transport];

  test('a snapshot is made again under its name: what was open is stale, and the name is the new one', () =>
    withLiveMount(async (live) => {
      const { image, mountpoint } = live;
      const tuesday = snapshotDisk(mountpoint, 'tuesday');
      await whileOpen(tuesday, async (fd) => {
        const { ino } = fs.fstatSync(fd);
        expect(letterOf(fd, 0)).toBe('b');
        deleteSnapshot(image, 'tuesday');
        fillDisk(image, 'd');
        createSnapshot(image, 'tuesday');
        expect(letterOf(fd, FAR)).toBe('ESTALE');
        await expectFollowed(live);
        expect(letterAt(tuesday, FAR)).toBe('d');
        expect(fs.statSync(tuesday).ino).not.toBe(ino);
        expect(letterOf(fd, FAR)).toBe('ESTALE');
      });
    }, options));

  test('a deleted snapshot is gone from all folders, and another one comes', () =>
    withLiveMount(async ({ image, mountpoint }) => {
      const names = (folder: string) => fs.readdirSync(path.join(mountpoint, folder)).sort();
      const [, tuesdayDate] = names('by-date');
      deleteSnapshot(image, 'tuesday');
      await waitUntil(() => names('snapshots').length === 1);
      expect([names('snapshots'), names('by-id')]).toEqual([['monday'], ['1']]);
      expect(names('by-date')).not.toContain(tuesdayDate);
      expect(errorOf(() => fs.statSync(path.join(mountpoint, 'snapshots/tuesday')))).toBe('ENOENT');
      createSnapshot(image, 'wednesday');
      await waitUntilFollowed(mountpoint, image);
      expect([names('snapshots'), names('by-id')]).toEqual([
        ['monday', 'wednesday'],
        ['1', '2'],
      ]);
      const dates = names('by-date').map((date) => fs.realpathSync(path.join(mountpoint, 'by-date', date)));
      expect(dates.sort()).toEqual(['monday', 'wednesday'].map((name) => path.join(mountpoint, 'snapshots', name)));
    }, options));
});

test('a table in another order leaves all as it is', () =>
  withLiveMount(async (live) => {
    const { image, mountpoint } = live;
    const inodes = () => ['monday', 'tuesday'].map((name) => fs.statSync(snapshotDisk(mountpoint, name)).ino);
    const before = inodes();
    await whileOpen(snapshotDisk(mountpoint, 'monday'), async (monday) => {
      exchangeEntries(image);
      expect(listSnapshots(image).map(({ name }) => name)).toEqual(['tuesday', 'monday']);
      await waitUntil(() => listedOrder(mountpoint).join() === 'tuesday,monday');
      expect(letterOf(monday, FAR)).toBe('a');
      await expectFollowed(live);
      expect(inodes()).toEqual(before);
    });
  }));

/** Two entries of one length change their places in the table (docs/interop/qcow2.txt, Snapshots). */
function exchangeEntries(image: string): void {
  const file = fs.readFileSync(image);
  const table = Number(file.readBigUInt64BE(64));
  const bytesOf = (at: number) =>
    40 + file.readUInt32BE(at + 36) + file.readUInt16BE(at + 12) + file.readUInt16BE(at + 14);
  const padded = (at: number) => Math.ceil(bytesOf(at) / 8) * 8;
  const middle = table + padded(table);
  const end = middle + padded(middle);
  const exchanged = Buffer.concat([file.subarray(middle, end), file.subarray(table, middle)]);
  const fd = fs.openSync(image, 'r+');
  try {
    fs.writeSync(fd, exchanged, 0, exchanged.length, table);
  } finally {
    fs.closeSync(fd);
  }
}

function listedOrder(mountpoint: string): string[] {
  return readImageJson(mountpoint).snapshots.map(({ name }) => name);
}

test('pages of a snapshot stay in the page cache when others come and go', () =>
  withLiveMount(async ({ image, mountpoint }) => {
    const monday = snapshotDisk(mountpoint, 'monday');
    const tuesday = snapshotDisk(mountpoint, 'tuesday');
    for (const file of [monday, tuesday]) runCommand('dd', [`if=${file}`, 'of=/dev/null', 'bs=1M', 'status=none']);
    const before = cachedBytes(monday);
    expect(before).toBeGreaterThanOrEqual(8 * MIB);
    await whileOpen(tuesday, async (fd) => {
      expect(letterOf(fd, 0)).toBe('b');
      deleteSnapshot(image, 'tuesday');
      createSnapshot(image, 'wednesday');
      await waitUntilFollowed(mountpoint, image);
      expect(cachedBytes(monday)).toBe(before);
      // The pages of one that is gone go, even if it is still open.
      await waitUntil(() => letterOf(fd, 0) === 'ESTALE');
    });
    expect(letterAt(monday, 0)).toBe('a');
    expect(cachedBytes(monday)).toBe(before);
  }));

function cachedBytes(file: string): number {
  return Number(runCommand('fincore', ['--bytes', '--noheadings', '--output', 'RES', file]).trim());
}

test('what describes a snapshot is read as it was, or not at all, while the snapshot is deleted', () =>
  withLiveMount(async ({ image, mountpoint }) => {
    const names = ['monday', 'tuesday'];
    for (let index = 0; index < 8; index++) {
      createSnapshot(image, `more${index}`);
      names.push(`more${index}`);
    }
    await waitUntilFollowed(mountpoint, image);
    const files = names.map((name) => {
      const file = path.join(mountpoint, 'snapshots', name, 'info.json');
      return { name, text: fs.readFileSync(file, 'utf8'), fd: fs.openSync(file, 'r') };
    });
    const buffer = Buffer.alloc(64 * 1024);
    try {
      for (const { name, text, fd } of files) {
        deleteSnapshot(image, name);
        do {
          let shown = '';
          const error = errorOf(() => {
            shown = buffer.toString('utf8', 0, fs.readSync(fd, buffer, 0, buffer.length, 0));
          });
          expect(error ?? shown, name).toBe(error === undefined ? text : 'ESTALE');
        } while (fs.existsSync(path.join(mountpoint, 'snapshots', name)));
      }
    } finally {
      for (const { fd } of files) fs.closeSync(fd);
    }
  }));

test('an open directory stream tells each snapshot that stays just once', () =>
  withLiveMount(async ({ image, mountpoint }) => {
    for (let index = 0; index < 20; index++) createSnapshot(image, `s${index}`);
    await waitUntilFollowed(mountpoint, image);
    const directory = fs.opendirSync(path.join(mountpoint, 'snapshots'), { bufferSize: 1 });
    const seen: string[] = [];
    try {
      for (let index = 0; index < 5; index++) seen.push(directory.readSync()?.name ?? '');
      deleteSnapshot(image, 'monday');
      deleteSnapshot(image, 's7');
      createSnapshot(image, 'new');
      await waitUntilFollowed(mountpoint, image);
      for (let entry = directory.readSync(); entry !== null; entry = directory.readSync()) seen.push(entry.name);
    } finally {
      directory.closeSync();
    }
    const stayed = [
      'tuesday',
      ...Array.from({ length: 20 }, (_, index) => `s${index}`).filter((name) => name !== 's7'),
    ];
    for (const name of stayed)
      expect(
        seen.filter((each) => each === name),
        name,
      ).toEqual([name]);
  }));

test('ls in a loop always tells the snapshot that stays, and never fails', () =>
  withLiveMount(async ({ image, mountpoint }) => {
    // A link that goes between the list and the look at it is missing everywhere; a folder that stays is not.
    const script = `while [ ! -e "$2/stop" ]; do
      ls -l "$1/snapshots/monday/" >/dev/null && ls "$1/by-id" >/dev/null || exit 1
      [ "$(ls "$1/snapshots" | grep -cx monday)" = 1 ] || { echo monday is missing; exit 1; }
      done`;
    const folder = path.dirname(image);
    const lister = spawn('sh', ['-c', script, 'sh', mountpoint, folder], { stdio: ['ignore', 'pipe', 'pipe'] });
    const ended = once(lister, 'close');
    let said = '';
    for (const stream of [lister.stdout, lister.stderr]) stream.on('data', (text) => (said += text));
    try {
      for (let round = 0; round < 10; round++) {
        createSnapshot(image, 'new');
        await waitUntilFollowed(mountpoint, image);
        deleteSnapshot(image, 'new');
        await waitUntilFollowed(mountpoint, image);
      }
    } finally {
      fs.writeFileSync(path.join(folder, 'stop'), '');
      await ended;
    }
    expect({ said, exitCode: lister.exitCode }).toEqual({ said: '', exitCode: 0 });
  }));

test('an ordinary user sees the same', () =>
  withUserPlace(
    (image) => void makeLiveImage(image),
    async ({ folder, image, mountpoint }) => {
      const launcher = installForUsers(path.join(folder, 'package'));
      runAsOrdinaryUser([launcher, 'mount', image, mountpoint]);
      const list = () =>
        runAsOrdinaryUser(['ls', path.join(mountpoint, 'snapshots')])
          .trim()
          .split('\n');
      const firstByte = (name: string) =>
        runAsOrdinaryUser(['dd', `if=${snapshotDisk(mountpoint, name)}`, 'bs=1', 'count=1', 'status=none']);
      runAsOrdinaryUser(['qemu-img', 'snapshot', '-c', 'wednesday', image]);
      runAsOrdinaryUser(['qemu-img', 'snapshot', '-d', 'monday', image]);
      await waitUntil(() => list().join() === 'tuesday,wednesday');
      expect(['tuesday', 'wednesday'].map(firstByte)).toEqual(['b', 'c']);
      expect(fs.statSync(image).uid).toBe(ordinaryUser().uid);
      runAsOrdinaryUser([launcher, 'umount', mountpoint]);
      await waitUntilGone(mountpoint);
    },
  ));
