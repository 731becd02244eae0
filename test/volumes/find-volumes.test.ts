/** What is found on whole disks that real tools have made: partitions, file systems and logical volumes together. */

import fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { Disk } from '../../src/disk/disk.ts';
import { Qcow2fsError } from '../../src/errors.ts';
import { RawDisk } from '../../src/raw/raw-disk.ts';
import { FileStorage, openFile } from '../../src/storage/file-storage.ts';
import { findVolumes, type VolumeList } from '../../src/volumes/find-volumes.ts';
import { catchError } from '../support/catch-error.ts';
import { runCommand, tryCommand } from '../support/run-command.ts';
import { askBlkid } from './file-systems/probing.ts';
import { createLinear, type LvmWorld, withLvm } from './lvm/lvm-tools.ts';
import { damageByte, MIB, readByPartx, readBytes, runSfdisk, withDisk, writeBytes } from './partitioned-disk.ts';

const SECTOR_BYTES = 512;

/** Runs `body` with the disk in a file. */
function withOpenDisk<Result>(path: string, body: (disk: Disk) => Result): Result {
  const file = openFile(path);
  try {
    return body(new RawDisk(new FileStorage(file)));
  } finally {
    fs.closeSync(file.fd);
  }
}

const findIn = (path: string) => withOpenDisk(path, findVolumes);

/** Name, place, size and file system of each. */
function outline({ volumes }: VolumeList) {
  return volumes.map(({ name, startBytes, disk, fileSystem }) => [name, startBytes, disk.sizeBytes, fileSystem?.type]);
}

/** Makes a file system in a file of its own, and puts it into the disk. */
function putFileSystem(path: string, startBytes: number, sizeBytes: number, mkfs: readonly string[]): void {
  const part = `${path}.part`;
  try {
    fs.writeFileSync(part, '');
    fs.truncateSync(part, sizeBytes);
    const [command = '', ...args] = mkfs;
    runCommand(command, [...args, part]);
    writeBytes(path, startBytes, fs.readFileSync(part));
  } finally {
    fs.rmSync(part, { force: true });
  }
}

/** Fails unless each partition has the range that partx tells, and what libblkid finds in it. */
function expectSameAsTools(path: string, list: VolumeList): void {
  const partitions = list.volumes.filter(({ partition }) => partition !== undefined);
  expect(
    partitions.map(({ name, startBytes, disk, partition }) => [
      name,
      startBytes,
      disk.sizeBytes,
      partition?.uuid ?? '',
    ]),
  ).toEqual(readByPartx(path).map(([number, start, size, uuid]) => [`p${number}`, start, size, uuid]));
  const range = `${path}.range`;
  for (const { name, startBytes = 0, disk, fileSystem } of partitions) {
    try {
      fs.writeFileSync(range, readBytes(path, startBytes, disk.sizeBytes));
      const found = askBlkid(range);
      const { type, label, uuid } = fileSystem ?? {};
      expect(type === undefined ? 'nothing' : { type, label, uuid }, name).toEqual(found);
    } finally {
      fs.rmSync(range, { force: true });
    }
  }
}

describe('a file system that fills the disk', () => {
  it.each([
    ['ext4', ['mkfs.ext4', '-q', '-L', 'all']],
    ['btrfs', ['mkfs.btrfs', '-q', '-L', 'all']],
    ['swap', ['mkswap', '-q', '-L', 'all']],
  ])('is one volume: %s', (type, mkfs) =>
    withDisk(128 * MIB, (path) => {
      const [command = '', ...args] = mkfs;
      runCommand(command, [...args, path]);
      const list = findIn(path);
      expect(outline(list)).toEqual([['disk', 0, 128 * MIB, type]]);
      expect(list.volumes[0]?.fileSystem?.label).toBe('all');
      expect([list.table, list.problems]).toEqual([undefined, []]);
    }),
  );

  it('is one volume although FAT ends its boot sector as a partition table does', () =>
    withDisk(16 * MIB, (path) => {
      runCommand('mkfs.fat', ['-n', 'STICK', path]);
      expect(readBytes(path, SECTOR_BYTES - 2, 2)).toEqual(Buffer.from([0x55, 0xaa]));
      const list = findIn(path);
      expect(outline(list)).toEqual([['disk', 0, 16 * MIB, 'vfat']]);
      expect([list.table, list.problems]).toEqual([undefined, []]);
    }));

  it('is beside its partitions on a disc image that is made for sticks as well', () =>
    withDisk(0, (path) => {
      const source = `${path}.source`;
      fs.mkdirSync(source);
      fs.writeFileSync(`${source}/file`, Buffer.alloc(3 * MIB, 1));
      const efi = `${path}.efi`;
      fs.writeFileSync(efi, '');
      fs.truncateSync(efi, 4 * MIB);
      runCommand('mkfs.fat', ['-n', 'EFI', efi]);
      const partition = ['-append_partition', '2', '0xef', efi];
      runCommand('xorriso', ['-as', 'mkisofs', '-quiet', '-V', 'INSTALL', ...partition, '-o', path, source]);
      const list = findIn(path);
      expect(list.volumes[0]).toMatchObject({ name: 'disk', fileSystem: { type: 'iso9660', label: 'INSTALL' } });
      expect(list.volumes.find(({ name }) => name === 'p2')?.fileSystem).toMatchObject({ type: 'vfat', label: 'EFI' });
      expectSameAsTools(path, list);
    }));

  it('is none on a disk of zeros', () =>
    withDisk(MIB, (path) => {
      expect(findIn(path)).toEqual({ table: undefined, volumes: [], unsupported: [], problems: [] });
    }));

  it.each([0, 1, 511, 512, 4096])('is none on a disk of %i bytes, which is no problem', (sizeBytes) =>
    withDisk(sizeBytes, (path) => {
      expect(outline(findIn(path))).toEqual([]);
    }),
  );
});

describe('a partitioned disk', () => {
  const GPT = 'label: gpt\n2 : start=80MiB,size=20MiB,name="home"\n1 : start=1MiB,size=16MiB,name="EFI ü"\n';

  function makeGpt(path: string): void {
    runSfdisk(path, GPT);
    putFileSystem(path, MIB, 16 * MIB, ['mkfs.fat', '-n', 'ESP']);
    putFileSystem(path, 80 * MIB, 20 * MIB, ['mkfs.ext4', '-q', '-L', 'home']);
  }

  it('has a volume for each partition of a GPT, by their numbers', () =>
    withDisk(128 * MIB, (path) => {
      makeGpt(path);
      const list = findIn(path);
      expect(outline(list)).toEqual([
        ['p1', MIB, 16 * MIB, 'vfat'],
        ['p2', 80 * MIB, 20 * MIB, 'ext4'],
      ]);
      expect(list.problems).toEqual([]);
      expect(list.volumes.map(({ partition }) => partition?.name)).toEqual(['EFI ü', 'home']);
      expectSameAsTools(path, list);
    }));

  it('has volumes for logical partitions of an MBR, which count from 5', () =>
    withDisk(128 * MIB, (path) => {
      const logical = 'start=34MiB,size=20MiB,type=83\nstart=56MiB,size=16MiB,type=83\n';
      runSfdisk(path, `label: dos\nstart=1MiB,size=16MiB,type=c\n2 : start=32MiB,size=64MiB,type=5\n${logical}`);
      putFileSystem(path, MIB, 16 * MIB, ['mkfs.fat', '-n', 'DOS']);
      putFileSystem(path, 34 * MIB, 20 * MIB, ['mkfs.ext4', '-q', '-L', 'five']);
      const list = findIn(path);
      expect(outline(list)).toEqual([
        ['p1', MIB, 16 * MIB, 'vfat'],
        ['p5', 34 * MIB, 20 * MIB, 'ext4'],
        ['p6', 56 * MIB, 16 * MIB, undefined],
      ]);
      expect(list.problems).toEqual([]);
      expect(list.table?.partitions.map(({ isExtended }) => isExtended)).toEqual([false, true, false, false]);
    }));

  it('is read by the GPT at its end if the one at its beginning is damaged, and that is told', () =>
    withDisk(128 * MIB, (path) => {
      makeGpt(path);
      const before = outline(findIn(path));
      damageByte(path, SECTOR_BYTES + 60);
      const list = findIn(path);
      expect(outline(list)).toEqual(before);
      expect(list.problems).not.toEqual([]);
    }));

  it('has no volumes if both GPTs are damaged, and that is told', () =>
    withDisk(128 * MIB, (path) => {
      makeGpt(path);
      damageByte(path, SECTOR_BYTES + 60);
      damageByte(path, 128 * MIB - SECTOR_BYTES + 60);
      const list = findIn(path);
      expect(list.volumes).toEqual([]);
      expect(list.problems).not.toEqual([]);
      expect(tryCommand('partx', ['--show', '--noheadings', path]).stdout).toBe('');
    }));

  it('has its other volumes if the file system of one is damaged', () =>
    withDisk(128 * MIB, (path) => {
      makeGpt(path);
      writeBytes(path, 80 * MIB, Buffer.alloc(MIB, 0xff));
      expect(outline(findIn(path))).toEqual([
        ['p1', MIB, 16 * MIB, 'vfat'],
        ['p2', 80 * MIB, 20 * MIB, undefined],
      ]);
    }));
});

describe('logical volumes', () => {
  /** A group of two volumes; the first one is in two pieces. */
  function makeGroup(world: LvmWorld, devices: readonly string[] = world.devices): void {
    world.run('vgcreate', '-s', '1m', 'my-group', ...devices);
    createLinear(world, 'my-group', 'root-fs', 6);
    createLinear(world, 'my-group', 'swap', 4);
    world.run('lvextend', '-l', '+6', 'my-group/root-fs');
    for (const device of devices) runCommand('blockdev', ['--flushbufs', fs.realpathSync(device)]);
  }

  it('are found on a disk that is one physical volume', () =>
    withLvm([32 * MIB], (world) => {
      makeGroup(world);
      const list = findIn(world.files[0] ?? '');
      expect(outline(list)).toEqual([
        ['disk', 0, 32 * MIB, 'LVM2_member'],
        ['my--group-root--fs', undefined, 12 * MIB, undefined],
        ['my--group-swap', undefined, 4 * MIB, undefined],
      ]);
      expect([list.problems, list.unsupported]).toEqual([[], []]);
    }));

  it('are found over the partitions of a disk, and those that cannot be mapped are told', () =>
    withLvm([20 * MIB, 20 * MIB], (world) => {
      makeGroup(world);
      createLinear(world, 'my-group', 'both', 10);
      world.run('lvcreate', '-an', '-Zn', '-Wn', '-y', '-i', '2', '-l', '2', '-n', 'striped', 'my-group');
      for (const device of world.devices) runCommand('blockdev', ['--flushbufs', fs.realpathSync(device)]);
      return withDisk(64 * MIB, (path) => {
        runSfdisk(path, 'label: gpt\n1 : start=1MiB,size=20MiB\n2 : start=24MiB,size=20MiB\n');
        for (const [index, start] of [MIB, 24 * MIB].entries()) {
          writeBytes(path, start, fs.readFileSync(world.files[index] ?? ''));
        }
        const list = findIn(path);
        expect(outline(list).slice(0, 2)).toEqual([
          ['p1', MIB, 20 * MIB, 'LVM2_member'],
          ['p2', 24 * MIB, 20 * MIB, 'LVM2_member'],
        ]);
        const shown = list.volumes.slice(2).map(({ name }) => name);
        const told = list.unsupported.map(({ volumeGroup, name }) => `${volumeGroup}/${name}`);
        expect(shown).toEqual(expect.arrayContaining(['my--group-root--fs', 'my--group-swap', 'my--group-both']));
        expect([...shown, ...told]).toHaveLength(4);
        expect(list.problems).toEqual([]);
      });
    }));

  it('are gone with the metadata of their group, which leaves the partitions', () =>
    withLvm([20 * MIB], (world) => {
      makeGroup(world);
      return withDisk(32 * MIB, (path) => {
        runSfdisk(path, 'label: gpt\n1 : start=1MiB,size=20MiB\n');
        writeBytes(path, MIB, fs.readFileSync(world.files[0] ?? ''));
        // The metadata area, behind the label: text and its place.
        writeBytes(path, MIB + 4096, Buffer.alloc(MIB - 8192, 0xff));
        const list = findIn(path);
        expect(outline(list)).toEqual([['p1', MIB, 20 * MIB, 'LVM2_member']]);
        expect(list.problems).not.toEqual([]);
      });
    }));
});

describe('what cannot be read', () => {
  /** A disk that fails in reads that touch the range. */
  function failing(disk: Disk, from: number, to: number, code: 'STALE' | 'BUSY' | 'DAMAGED' | 'IO'): Disk {
    return {
      sizeBytes: disk.sizeBytes,
      extentAt: (offset, maxLengthBytes, into) => disk.extentAt(offset, maxLengthBytes, into),
      readAt: (target, targetOffset, offset, length) => {
        if (offset < to && offset + length > from) throw new Qcow2fsError(code, `cannot read ${offset}`);
        disk.readAt(target, targetOffset, offset, length);
      },
      allocatedBytes: () => disk.allocatedBytes(),
      metadataBytes: () => disk.metadataBytes(),
    };
  }

  const SCRIPT = 'label: gpt\n1 : start=1MiB,size=16MiB\n2 : start=32MiB,size=20MiB\n';

  function withTwoFileSystems(body: (disk: Disk) => void): Promise<void> {
    return withDisk(64 * MIB, (path) => {
      runSfdisk(path, SCRIPT);
      putFileSystem(path, MIB, 16 * MIB, ['mkfs.ext4', '-q', '-L', 'one']);
      putFileSystem(path, 32 * MIB, 20 * MIB, ['mkfs.ext4', '-q', '-L', 'two']);
      withOpenDisk(path, body);
    });
  }

  const label = ({ volumes }: VolumeList) => volumes.map(({ fileSystem }) => fileSystem?.label);

  it.each(['DAMAGED', 'IO'] as const)('%s costs what is in it, and is told with the name of the volume', (code) =>
    withTwoFileSystems((disk) => {
      expect(label(findVolumes(disk))).toEqual(['one', 'two']);
      const list = findVolumes(failing(disk, MIB, 17 * MIB, code));
      expect(list.volumes.map(({ name }) => name)).toEqual(['p1', 'p2']);
      expect(label(list)).toEqual([undefined, 'two']);
      expect(list.problems.length).toBeGreaterThan(0);
      expect(list.problems.every((problem) => problem.startsWith('p1: '))).toBe(true);
    }),
  );

  it('the first sectors cost nothing while the other GPT is there', () =>
    withTwoFileSystems((disk) => {
      const list = findVolumes(failing(disk, 0, 34 * SECTOR_BYTES, 'DAMAGED'));
      expect(label(list)).toEqual(['one', 'two']);
      expect(list.problems.join('\n')).toContain('the first sector');
    }));

  it.each(['STALE', 'BUSY'] as const)('%s is the answer wherever it is met', (code) =>
    withTwoFileSystems((disk) => {
      const places = [
        [0, SECTOR_BYTES],
        [SECTOR_BYTES, 2 * SECTOR_BYTES],
        [MIB, 2 * MIB],
        [32 * MIB, 33 * MIB],
      ] as const;
      for (const [from, to] of places) {
        expect(catchError(() => findVolumes(failing(disk, from, to, code))).code, String(from)).toBe(code);
      }
    }),
  );
});

/** A partition that nothing is on yet, and what was on the disk before. */
it.each([
  ['a file system of an earlier partition', ['mkfs.fat', '-F', '16', '-S', '512', '--offset=16384'], ['32768']],
  ['a copy of the superblock of an earlier file system', ['mkfs.ext4', '-q', '-F', '-b', '1024'], []],
])('a new partition is where the tools say, whatever %s is at eight times its start', (_, mkfs, size) =>
  withDisk(128 * MIB, (path) => {
    const [program = '', ...options] = mkfs;
    runCommand(program, [...options, path, ...size]);
    runSfdisk(path, 'label: dos\n2048,8192\n', ['--wipe', 'never']);
    const [first, ...others] = findIn(path).volumes;
    expect([first?.startBytes, first?.fileSystem, others]).toEqual([MIB, undefined, []]);
  }),
);
