/** The volumes of each state, mounted and compared with what real tools have written. */

import fs from 'node:fs';
import path from 'node:path';
import tmp from 'tmp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { waitUntil } from '../daemon/mounting.ts';
import { createSnapshot, deleteSnapshot, type MapEntry, mapRawFile, runQemuIo } from '../oracle/qemu.ts';
import { withMount } from '../support/mounted-image.ts';
import { runAsOrdinaryUser } from '../support/ordinary-user.ts';
import { runCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { installForUsers, withUserPlace } from '../support/user-place.ts';
import { readBytes, runSfdisk, withLargeSectors } from '../volumes/partitioned-disk.ts';
import { withBlockDeviceMount, withLoopDevice } from './block-devices.ts';
import { currentDisk, errorOf, letterOf, MIB, snapshotDisk, whileOpen, withLiveImage } from './live.ts';
import { withMachine } from './live-machine.ts';
import {
  type FilledState,
  type FilledVolume,
  makePartitionedImage,
  makeSmallDisk,
  type PartitionedImage,
  replaceDisk,
  SMALL_DISK_BYTES,
} from './partitioned-image.ts';

const SECTOR_BYTES = 512;
/** Where both GPTs of the small disk have their headers. */
const GPT_OFFSETS = [SECTOR_BYTES, SMALL_DISK_BYTES - SECTOR_BYTES];
const ONE = 'label: gpt\nstart=1MiB,size=16MiB,name="one"\n';
const OTHER = 'label: dos\n2 : start=20MiB,size=4MiB,type=83\n3 : start=1MiB,size=16MiB,type=83\n';

const folder = tmp.dirSync({ prefix: 'qcow2fs-volumes-', unsafeCleanup: true, mode: 0o755 });
let image: PartitionedImage;

beforeAll(async () => {
  image = await makePartitionedImage(folder.name);
});

afterAll(() => folder.removeCallback());

/** Runs `body` for each volume with a file system in each state. */
async function forEachVolume(
  mountpoint: string,
  body: (file: string, volume: FilledVolume, state: FilledState, title: string) => void | Promise<void>,
): Promise<void> {
  for (const state of image.states) {
    for (const volume of image.volumes) {
      const file = path.join(mountpoint, state.folder, 'volumes', `${volume.name}.raw`);
      await body(file, volume, state, `${volume.name} of ${state.folder}`);
    }
  }
}

/** Fails unless the file has the bytes that the other one has at an offset. */
function expectSameBytes(file: string, other: string, offset: number): void {
  runCommand('cmp', ['-n', String(fs.statSync(file).size), '-i', `0:${offset}`, file, other]);
}

/** The part of a map that is about a range, counted from its start. */
function clip(map: readonly MapEntry[], from: number, sizeBytes: number): { start: number; end: number }[] {
  return map
    .filter(({ data }) => data)
    .map(({ start, length }) => ({
      start: Math.max(0, start - from),
      end: Math.min(sizeBytes, start + length - from),
    }))
    .filter(({ start, end }) => start < end);
}

describe.each(['kernel', 'fuse-native'])('through %s', (transport) => {
  const options = { options: ['--transport', transport] };

  it('each volume is listed in each state, by all of its names', () =>
    withMount(
      image.path,
      (mountpoint) => {
        for (const { folder: state } of image.states) {
          const at = (...names: string[]) => path.join(mountpoint, state, 'volumes', ...names);
          const files = ['p1.raw', 'p2.raw', 'p3.raw', 'p4.raw', 'vg-between.raw', 'vg-root.raw'];
          expect(fs.readdirSync(at()).sort()).toEqual(['by-label', 'by-partlabel', 'by-uuid', ...files]);
          expect(fs.readdirSync(at('by-label')).sort()).toEqual(['a%2Fb', 'boot', 'data', 'root']);
          expect(fs.readdirSync(at('by-partlabel')).sort()).toEqual(['first', 'second part', 'third']);
          for (const { name, label, uuid, sizeBytes } of image.volumes) {
            const { ino, size } = fs.statSync(at(`${name}.raw`));
            expect(size).toBe(sizeBytes);
            expect(fs.statSync(at('by-label', label.replace('/', '%2F'))).ino).toBe(ino);
            expect(fs.statSync(at('by-uuid', uuid)).ino).toBe(ino);
          }
          expect(fs.realpathSync(at('by-partlabel', 'second part'))).toBe(at('p2.raw'));
        }
      },
      options,
    ));

  it('a volume has the bytes of its range, or of its segments', () =>
    withMount(
      image.path,
      (mountpoint) =>
        forEachVolume(mountpoint, (file, { startBytes }, { folder: state, rawPath, logicalPath }) => {
          if (startBytes === undefined) return expectSameBytes(file, logicalPath, 0);
          expectSameBytes(file, rawPath, startBytes);
          expectSameBytes(file, path.join(mountpoint, state, 'disk.raw'), startBytes);
        }),
      options,
    ));

  it('a volume is mounted with the files of its state', () =>
    withMount(
      image.path,
      (mountpoint) =>
        forEachVolume(mountpoint, (file, { type }, { source }) =>
          withLoopDevice(['-r', file], (device) => {
            const mountOptions = type === 'xfs' ? 'ro,nouuid' : 'ro';
            withBlockDeviceMount(device, ['-o', mountOptions], folder.name, (mounted) => {
              runCommand('diff', ['-r', '--exclude=lost+found', source, mounted]);
            });
          }),
        ),
      options,
    ));
});

it('info.json tells the table, and name, place and file system of each volume', () =>
  withMount(image.path, (mountpoint) => {
    for (const { folder: state, rawPath } of image.states) {
      const info = JSON.parse(fs.readFileSync(path.join(mountpoint, state, 'info.json'), 'utf8'));
      const uuid = runCommand('blkid', ['-p', '-s', 'PTUUID', '-o', 'value', rawPath]).trim();
      expect(info.partitionTable).toEqual({ kind: 'gpt', sectorBytes: SECTOR_BYTES, uuid });
      for (const { name, type, label, uuid: itsUuid, sizeBytes, startBytes = null } of image.volumes) {
        expect(info.volumes.find((volume: { name: string }) => volume.name === name)).toMatchObject({
          ...{ name, sizeBytes, startBytes },
          fileSystem: { type, label, uuid: itsUuid, dirty: false },
        });
      }
      expect([info.unsupportedVolumes, info.volumeProblems]).toEqual([[], []]);
    }
  }));

it('a volume has the holes of its range, is as large as its data, and is copied sparsely', () =>
  withMount(image.path, (mountpoint) =>
    forEachVolume(mountpoint, (file, { startBytes, sizeBytes }, state, title) => {
      const shown = clip(mapRawFile(file), 0, sizeBytes);
      const dataBytes = shown.reduce((sum, { start, end }) => sum + end - start, 0);
      expect(fs.statSync(file).blocks * SECTOR_BYTES, title).toBe(dataBytes);
      expect(dataBytes, title).toBeLessThan(sizeBytes);
      if (startBytes !== undefined) {
        const map = mapRawFile(path.join(mountpoint, state.folder, 'disk.raw'));
        expect(shown, title).toEqual(clip(map, startBytes, sizeBytes));
      }
      const copy = path.join(folder.name, 'copy');
      try {
        runCommand('cp', ['--sparse=auto', file, copy]);
        runCommand('sync', [copy]);
        expect(fs.statSync(copy).blocks * SECTOR_BYTES, title).toBeLessThanOrEqual(dataBytes * 1.1 + 4096);
        runCommand('cmp', [file, copy]);
      } finally {
        fs.rmSync(copy, { force: true });
      }
    }),
  ));

it('an ordinary user reads volumes, also with the tools of their file system', () =>
  withUserPlace(
    (copy) => fs.copyFileSync(image.path, copy),
    async ({ folder: place, image: copy, mountpoint }) => {
      const launcher = installForUsers(path.join(place, 'package'));
      runAsOrdinaryUser([launcher, 'mount', copy, mountpoint]);
      await forEachVolume(mountpoint, (file, { type }, { source, logicalPath }, title) => {
        if (type !== 'ext4') return;
        const wanted = runCommand('sha256sum', [path.join(source, 'deep/deeper/file 1')]).split(' ')[0];
        const script = 'debugfs -R \'cat "/deep/deeper/file 1"\' "$1" 2>/dev/null | sha256sum';
        expect(runAsOrdinaryUser(['sh', '-c', script, 'sh', file]).split(' ')[0], title).toBe(wanted);
        if (!file.endsWith('vg-root.raw')) return;
        const whole = runCommand('sha256sum', [logicalPath]).split(' ')[0];
        expect(runAsOrdinaryUser(['sha256sum', file]).split(' ')[0], title).toBe(whole);
      });
      runAsOrdinaryUser([launcher, 'umount', mountpoint]);
    },
  ));

/** A disk with one partition, in the snapshot `monday` and in the current state, which has another label. */
function makeSmallImage(target: string): void {
  for (const label of ['old', 'new']) {
    makeSmallDisk(`${target}.raw`, ONE, label);
    replaceDisk(target, `${target}.raw`);
    if (label === 'old') createSnapshot(target, 'monday');
  }
  fs.rmSync(`${target}.raw`);
}

/** As `withLiveImage`, with an image of `makeSmallImage` that is mounted. */
function withSmallMount(
  body: (place: { image: string; folder: string; mountpoint: string }) => Promise<void>,
): Promise<void> {
  return withLiveImage(async ({ folder: place, mountpoint, mount, unmount }) => {
    const small = path.join(place, 'small.qcow2');
    makeSmallImage(small);
    mount([], [small]);
    await body({ image: small, folder: place, mountpoint });
    unmount();
  });
}

const volumesOf = (mountpoint: string, state: string) => path.join(mountpoint, state, 'volumes');

/** The labels in a state, or the error that is met instead. */
function labelsOf(mountpoint: string, state: string): string {
  let labels: readonly string[] = [];
  const error = errorOf(() => {
    labels = fs.readdirSync(path.join(volumesOf(mountpoint, state), 'by-label'));
  });
  return error ?? labels.join();
}

it('a disk of 3 TiB with sectors of 4096 bytes: a file behind 2 TiB, by the label of its partition', () =>
  withTemporaryFolder(async (place) => {
    const [raw, part, large, mounted] = ['raw', 'part', 'large.qcow2', 'mounted'].map((name) =>
      path.join(place, name),
    ) as [string, string, string, string];
    fs.mkdirSync(mounted);
    makeSmallFileSystem(part, 'far', mounted);
    fs.writeFileSync(raw, '');
    fs.truncateSync(raw, LARGE_DISK_BYTES);
    withLargeSectors(raw, (device) => runSfdisk(device, LARGE_TABLE));
    const dd = [`if=${part}`, `of=${raw}`, 'bs=64k', 'oflag=seek_bytes', `seek=${LARGE_START_BYTES}`];
    runCommand('dd', [...dd, 'conv=notrunc,sparse', 'status=none']);
    replaceDisk(large, raw);
    createSnapshot(large, 'monday');
    await withMount(large, (mountpoint) => {
      const volumes = volumesOf(mountpoint, 'snapshots/monday');
      expect(fs.readdirSync(path.join(volumes, 'by-partlabel')).sort()).toEqual(['twin', 'twin%id=2']);
      const file = path.join(volumes, 'by-partlabel', 'twin%id=2');
      expect(fs.realpathSync(file)).toBe(path.join(volumes, 'p2.raw'));
      expect(fs.statSync(file)).toMatchObject({ size: LARGE_DISK_BYTES - LARGE_START_BYTES - MIB });
      runCommand('mount', ['-o', 'ro,loop', file, mounted]);
      try {
        expect(fs.readFileSync(path.join(mounted, 'file'), 'utf8')).toBe('far');
      } finally {
        runCommand('umount', [mounted]);
      }
      const info = JSON.parse(fs.readFileSync(path.join(mountpoint, 'snapshots/monday/info.json'), 'utf8'));
      expect(info.partitionTable).toMatchObject({ kind: 'gpt', sectorBytes: 4096 });
      expect(info.volumes[1]).toMatchObject({
        startBytes: LARGE_START_BYTES,
        fileSystem: { type: 'ext4', label: 'far' },
      });
    });
  }));

const LARGE_DISK_BYTES = 3 * 2 ** 40;
const LARGE_START_BYTES = 2.5 * 2 ** 40;
/** In sectors of 4096 bytes, with 1 MiB left for the backup. */
const LARGE_TABLE = [
  'label: gpt',
  'start=256,size=1GiB,name="twin"',
  `start=${LARGE_START_BYTES / 4096},size=${(LARGE_DISK_BYTES - LARGE_START_BYTES - MIB) / 4096},name="twin"`,
].join('\n');

/** An ext4 with this label, which also is what its only file holds. */
function makeSmallFileSystem(file: string, label: string, mounted: string): void {
  fs.writeFileSync(file, '');
  fs.truncateSync(file, 16 * MIB);
  runCommand('mkfs.ext4', ['-q', '-L', label, file]);
  runCommand('mount', ['-o', 'loop', file, mounted]);
  try {
    fs.writeFileSync(path.join(mounted, 'file'), label);
  } finally {
    runCommand('umount', [mounted]);
  }
}

describe('while the image changes', () => {
  it('a volume of a snapshot that is deleted is stale where it is open, and gone', () =>
    withSmallMount(async ({ image: small, mountpoint }) => {
      expect([labelsOf(mountpoint, 'snapshots/monday'), labelsOf(mountpoint, 'current')]).toEqual(['old', 'new']);
      await whileOpen(path.join(volumesOf(mountpoint, 'snapshots/monday'), 'p1.raw'), async (fd) => {
        expect(letterOf(fd, 0)).toBe('zero');
        deleteSnapshot(small, 'monday');
        expect(letterOf(fd, 12 * MIB)).toBe('ESTALE');
        await waitUntil(() => !fs.existsSync(snapshotDisk(mountpoint, 'monday')));
        expect(errorOf(() => fs.readdirSync(volumesOf(mountpoint, 'snapshots/monday')))).toBe('ENOENT');
        expect(letterOf(fd, 13 * MIB)).toBe('ESTALE');
      });
      // Busy for as long as it is not sure that whoever deleted it has gone.
      await waitUntil(() => labelsOf(mountpoint, 'current') === 'new');
    }));

  it('what the page cache has of a volume goes with its snapshot, and stays when another one is deleted', () =>
    withSmallMount(async ({ image: small, mountpoint }) => {
      createSnapshot(small, 'tuesday');
      await waitUntil(() => labelsOf(mountpoint, 'snapshots/tuesday') === 'new');
      await whileOpen(path.join(volumesOf(mountpoint, 'snapshots/monday'), 'p1.raw'), async (fd) => {
        expect(letterOf(fd, 0)).toBe('zero');
        deleteSnapshot(small, 'tuesday');
        await waitUntil(() => !fs.existsSync(snapshotDisk(mountpoint, 'tuesday')));
        expect(letterOf(fd, 0)).toBe('zero');
        deleteSnapshot(small, 'monday');
        await waitUntil(() => letterOf(fd, 0) === 'ESTALE');
      });
    }));

  it('the volumes of the current state are those of the new table, and those of snapshots stay', () =>
    withSmallMount(async ({ image: small, folder: place, mountpoint }) => {
      const monday = path.join(volumesOf(mountpoint, 'snapshots/monday'), 'p1.raw');
      const { ino } = fs.statSync(monday);
      const raw = path.join(place, 'other.raw');
      expect(fs.readdirSync(volumesOf(mountpoint, 'current'))).toContain('p1.raw');
      makeSmallDisk(raw, OTHER, 'moved');
      replaceDisk(small, raw);
      await waitUntil(() => labelsOf(mountpoint, 'current') === 'moved');
      expect(fs.readdirSync(volumesOf(mountpoint, 'current')).sort()).toEqual([
        ...['by-label', 'by-uuid', 'p2.raw', 'p3.raw'],
      ]);
      expectSameBytes(path.join(volumesOf(mountpoint, 'current'), 'p3.raw'), raw, MIB);
      expectSameBytes(path.join(volumesOf(mountpoint, 'current'), 'p2.raw'), raw, 20 * MIB);
      expect(fs.statSync(monday).ino).toBe(ino);
      expect(labelsOf(mountpoint, 'snapshots/monday')).toBe('old');
    }));

  it('a virtual machine has the current state: its volumes are not told, those of snapshots are', () =>
    withSmallMount(async ({ image: small, mountpoint }) => {
      await withMachine(small, async (machine) => {
        await waitUntil(() => labelsOf(mountpoint, 'current') === 'EBUSY');
        await machine.io(`write -q -P 0xff 0 ${SMALL_DISK_BYTES}`);
        await machine.io('flush');
        expect(labelsOf(mountpoint, 'current')).toBe('EBUSY');
        expect(labelsOf(mountpoint, 'snapshots/monday')).toBe('old');
        await machine.quit();
      });
      const names = () => fs.readdirSync(volumesOf(mountpoint, 'current')).join();
      await waitUntil(() => errorOf(names) === undefined && names() === '');
    }));
});

it('a table that is damaged in both places costs volumes/ of its state, and nothing else', () =>
  withTemporaryFolder(async (place) => {
    const small = path.join(place, 'small.qcow2');
    makeSmallImage(small);
    runQemuIo(
      small,
      GPT_OFFSETS.map((offset) => `write -q -P 0xff ${offset} ${SECTOR_BYTES}`),
    );
    const raw = path.join(place, 'damaged.raw');
    runCommand('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', small, raw]);
    expect(readBytes(raw, GPT_OFFSETS[0] ?? 0, SECTOR_BYTES)).toEqual(Buffer.alloc(SECTOR_BYTES, 0xff));
    await withMount(small, (mountpoint) => {
      expect(fs.readdirSync(volumesOf(mountpoint, 'current'))).toEqual([]);
      runCommand('cmp', [raw, currentDisk(mountpoint)]);
      const info = JSON.parse(fs.readFileSync(path.join(mountpoint, 'current/info.json'), 'utf8'));
      expect(info.volumeProblems).not.toEqual([]);
      expect(info.volumes).toEqual([]);
      expect(labelsOf(mountpoint, 'snapshots/monday')).toBe('old');
    });
  }));
