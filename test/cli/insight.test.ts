/** `qcow2fs list` with its space, `list --would-free`, `diff` and `map`, as a user runs them. */

import fs from 'node:fs';
import { describe, expect, test } from 'vitest';
import { withMachine } from '../mounted/live-machine.ts';
import { createImage, createSnapshot, deleteSnapshot, resizeImage, runQemuIo } from '../oracle/qemu.ts';
import { QCOW2FS } from '../support/mounted-image.ts';
import { runCommand, tryCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { createLinear, withLvm } from '../volumes/lvm/lvm-tools.ts';
import { MIB, runSfdisk } from '../volumes/partitioned-disk.ts';

const KIB = 1024;
const qcow2fs = (...args: readonly string[]) => tryCommand(QCOW2FS, args);
const json = (...args: readonly string[]) => JSON.parse(runCommand(QCOW2FS, [...args, '--json']));

/**
 * Clusters of 64 KiB: 8 are in all states; 2 more were rewritten after `monday`, 1 of these again after `tuesday`, and 4 that are zeros
 * since were there in `tuesday` only.
 */
function makeDays(folder: string): string {
  const image = `${folder}/disk.qcow2`;
  createImage(image, { sizeBytes: 16 * MIB });
  runQemuIo(image, ['write -q -P 1 0 640k']);
  createSnapshot(image, 'monday');
  runQemuIo(image, ['write -q -P 2 512k 128k', 'write -q -P 3 1M 256k']);
  createSnapshot(image, 'tuesday');
  runQemuIo(image, ['write -q -P 4 512k 64k', 'write -q -z -u 1M 256k']);
  return image;
}

/** An image that a machine has open; `snapshot` lets the machine take one. */
function withRunning(
  body: (image: string, snapshot: (name: string) => Promise<unknown>) => Promise<void>,
): Promise<void> {
  return withTemporaryFolder((folder) => {
    const image = makeDays(folder);
    return withMachine(image, (machine) =>
      body(image, (name) => machine.run('blockdev-snapshot-internal-sync', { device: 'disk', name })),
    );
  });
}

/** The first L2 table of the current state is not cluster aligned any more. */
function damageActiveTable(image: string): void {
  const bytes = fs.readFileSync(image);
  const l1 = Number(bytes.readBigUInt64BE(40));
  bytes.writeBigUInt64BE(bytes.readBigUInt64BE(l1) + 512n, l1);
  fs.writeFileSync(image, bytes);
}

const rowsOf = (text: string) =>
  text
    .trimEnd()
    .split('\n')
    .map((line) => line.split(/ {2,}/));

describe('list', () => {
  test('tells what each state refers to, what only it holds, and what it has changed', () =>
    withTemporaryFolder((folder) => {
      const image = makeDays(folder);
      const { current, snapshots } = json('list', image);
      const figures = [...snapshots, current].map(({ referBytes, usedBytes, writtenBytes }) => [
        referBytes / (64 * KIB),
        usedBytes / (64 * KIB),
        writtenBytes / (64 * KIB),
      ]);
      expect(figures).toEqual([
        [10, 2, 10],
        [14, 5, 6],
        [10, 1, 5],
      ]);
      const rows = rowsOf(qcow2fs('list', image).stdout);
      expect(rows[0]?.slice(5)).toEqual(['REFER', 'USED', 'WRITTEN']);
      expect(rows[2]?.slice(5)).toEqual(['896 KiB', '320 KiB', '384 KiB']);
      expect(rows[3]?.slice(5)).toEqual(['640 KiB', '64 KiB', '320 KiB']);
    }));

  test('--would-free counts what several hold together, and takes ranges by date', () =>
    withTemporaryFolder((folder) => {
      const image = makeDays(folder);
      const both = json('list', image, '--would-free', 'monday', 'id:2');
      expect(both.usedBytes).toBe((2 + 2 + 4) * 64 * KIB - 64 * KIB);
      expect(both.snapshots.map(({ name }: { name: string }) => name)).toEqual(['monday', 'tuesday']);
      expect(json('list', image, '--would-free', 'tuesday..monday')).toEqual(both);
      expect(json('list', image, '--would-free', 'name:monday..id:2', 'monday')).toEqual(both);
      expect(qcow2fs('list', image, '--would-free', 'tuesday').stdout).toMatch(
        /^ {2}2 {2}tuesday\nDeleting this snapshot would free \S+ \S+ of the file \(\d+ clusters\): 320 KiB of data and 128 KiB of tables that nothing else holds\.\n$/,
      );
      createSnapshot(image, 'a..b');
      expect(json('list', image, '--would-free', 'a..b').snapshots).toEqual([{ id: '3', name: 'a..b' }]);
    }));

  test.each([
    [['--would-free', 'current'], 2, 'the current state cannot be deleted: name snapshots'],
    [['--would-free', 'friday'], 1, 'no snapshot is called friday; `qcow2fs list` shows those there are'],
    [['--would-free', 'monday..friday'], 1, 'no snapshot is called monday..friday'],
    [['--would-free', 'monday', '--volumes'], 2, '--volumes and --would-free are two questions: ask one'],
  ])('%j is refused', (args, status, message) =>
    withTemporaryFolder((folder) => {
      const result = qcow2fs('list', makeDays(folder), ...args);
      expect(result).toMatchObject({ status, stdout: '' });
      expect(result.stderr).toContain(message);
      expect(result.stderr.trimEnd()).not.toContain('\n');
    }),
  );

  test('refcounts that are not what the tables say are told', () =>
    withTemporaryFolder((folder) => {
      const image = makeDays(folder);
      const bytes = fs.readFileSync(image);
      const table = Number(bytes.readBigUInt64BE(48));
      const block = Number(bytes.readBigUInt64BE(table));
      const data = JSON.parse(runCommand('qemu-img', ['map', '--output=json', image]))[0].offset;
      bytes.writeUInt16BE(9, block + (data / (64 * KIB)) * 2);
      fs.writeFileSync(image, bytes);
      const { status, stderr } = qcow2fs('list', image);
      expect([status, stderr]).toEqual([
        0,
        expect.stringMatching(/^qcow2fs: warning: the refcounts of 1 clusters .*check` tells more\n$/),
      ]);
    }));

  test('a table that cannot be read costs what it maps', () =>
    withTemporaryFolder((folder) => {
      const image = makeDays(folder);
      damageActiveTable(image);
      const { status, stdout, stderr } = qcow2fs('list', image);
      expect(status).toBe(0);
      expect(stderr).toMatch(
        /warning: the L2 table at offset \d+ is not cluster aligned: what it maps is not counted\n/,
      );
      expect(rowsOf(stdout)[1]?.slice(5)).toEqual(['640 KiB', '128 KiB', '640 KiB']);
    }));

  test('beside a running machine, it says so', () =>
    withRunning(async (image, snapshot) => {
      await snapshot('now');
      const { status, stdout, stderr } = qcow2fs('list', image);
      expect(status).toBe(0);
      expect(stdout).toContain('now');
      expect(stderr).toMatch(
        /warning: qemu-system-x86.* \(process \d+\) writes to the image: REFER, USED and WRITTEN are those of/,
      );
    }));
});

describe('diff', () => {
  test('prints ranges and a summary, and one object as JSON', () =>
    withTemporaryFolder((folder) => {
      const image = makeDays(folder);
      expect(qcow2fs('diff', image, 'monday', 'tuesday')).toEqual({
        status: 0,
        stdout:
          'START    LENGTH\n524288   131072\n1048576  262144\n' +
          'monday and tuesday: 384 KiB (393216 bytes, 2.34 % of the disk) in 2 ranges\n',
        stderr: '',
      });
      expect(json('diff', image, 'id:2', 'current')).toEqual({
        ...{
          image,
          a: 'tuesday',
          b: 'current',
          aSizeBytes: 16 * MIB,
          bSizeBytes: 16 * MIB,
          isComplete: true,
          problems: [],
        },
        changedBytes: 320 * KIB,
        ranges: [
          { start: 512 * KIB, length: 64 * KIB },
          { start: 1 * MIB, length: 256 * KIB },
        ],
      });
      expect(qcow2fs('diff', image, 'monday', 'monday').stdout).toBe(
        'monday and monday: 0 B (0 bytes, 0 % of the disk) in 0 ranges\n',
      );
    }));

  test('--exact leaves out what was written with the same bytes', () =>
    withTemporaryFolder((folder) => {
      const image = makeDays(folder);
      runQemuIo(image, ['write -q -P 1 0 128k']);
      expect(json('diff', image, 'monday', 'current').changedBytes).toBe(256 * KIB);
      expect(json('diff', image, 'monday', 'current', '--exact').ranges).toEqual([
        { start: 512 * KIB, length: 128 * KIB },
      ]);
    }));

  test('of disks of two sizes, what only one has counts where it is not zeros', () =>
    withTemporaryFolder((folder) => {
      const image = makeDays(folder);
      resizeImage(image, 20 * MIB);
      runQemuIo(image, ['write -q -P 9 18M 64k']);
      const { aSizeBytes, bSizeBytes, ranges } = json('diff', image, 'tuesday', 'current');
      expect([aSizeBytes, bSizeBytes, ranges.at(-1)]).toEqual([
        16 * MIB,
        20 * MIB,
        { start: 18 * MIB, length: 64 * KIB },
      ]);
      expect(qcow2fs('diff', image, 'tuesday', 'current').stdout).toContain('; the disk has 16 MiB and 20 MiB\n');
    }));

  test('--volumes says which partition, and which logical volume, a range is in', () =>
    withLvm([24 * MIB], (world) => {
      const [device = ''] = world.devices;
      world.run('vgcreate', '-s', '512k', 'vg', device);
      createLinear(world, 'vg', 'home', 8, [device]);
      const image = `${world.folder}/lvm.qcow2`;
      const raw = `${world.folder}/disk.raw`;
      fs.writeFileSync(raw, '');
      fs.truncateSync(raw, 32 * MIB);
      runSfdisk(raw, 'label: gpt\nstart=2048, size=4096\nstart=8192, size=49152, type=lvm\n');
      runCommand('dd', [`if=${device}`, `of=${raw}`, 'bs=1M', 'seek=4', 'conv=notrunc', 'status=none']);
      runCommand('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, image]);
      createSnapshot(image, 'before');
      const home = 5 * MIB;
      runQemuIo(image, ['write -q -P 5 2M 128k', `write -q -P 6 ${home} 64k`, 'write -q -P 7 31M 64k']);
      expect(json('diff', image, 'before', 'current', '--volumes').ranges).toEqual([
        { start: 2 * MIB, length: 128 * KIB, volumes: ['p1'] },
        { start: home, length: 64 * KIB, volumes: ['p2', 'vg-home'] },
        { start: 31 * MIB, length: 64 * KIB, volumes: [] },
      ]);
      const { stdout } = qcow2fs('diff', image, 'before', 'current', '--volumes');
      expect(stdout).toMatch(/^START +LENGTH +VOLUMES\n.* p1\n.* p2, vg-home\n.* -\n\nVOLUME +CHANGED\np1 +128 KiB\n/);
      expect(stdout).toMatch(/\n\(outside\) +64 KiB\nbefore and current: /);
    }));

  test('needs neither the backing file nor the passphrase, unless it reads', () =>
    withTemporaryFolder((folder) => {
      const image = `${folder}/top.qcow2`;
      createImage(`${folder}/base.qcow2`, { sizeBytes: 4 * MIB });
      createImage(image, { sizeBytes: 4 * MIB, backing: { name: 'base.qcow2', format: 'qcow2' } });
      createSnapshot(image, 'before');
      runQemuIo(image, ['write -q 1M 64k']);
      fs.rmSync(`${folder}/base.qcow2`);
      expect(json('diff', image, 'before', 'current').ranges).toEqual([{ start: 1 * MIB, length: 64 * KIB }]);
      expect(qcow2fs('diff', '--exact', image, 'before', 'current')).toMatchObject({ status: 1, stdout: '' });
    }));

  test('a table that cannot be read counts as changed, with a warning and exit status 1', () =>
    withTemporaryFolder((folder) => {
      const image = makeDays(folder);
      damageActiveTable(image);
      const { status, stdout, stderr } = qcow2fs('diff', image, 'monday', 'current');
      expect(status).toBe(1);
      expect(stdout).toContain('0      16777216\n');
      expect(stderr).toMatch(
        /warning: the L2 table at offset \d+ is not cluster aligned: the range from 0 to 16777216 counts as changed\n/,
      );
    }));

  test('snapshots of a running machine are compared, its current state is not', () =>
    withRunning(async (image, snapshot) => {
      await snapshot('one');
      await snapshot('two');
      expect(qcow2fs('diff', image, 'one', 'two').status).toBe(0);
      const { status, stderr } = qcow2fs('diff', image, 'one', 'current');
      expect([status, stderr]).toEqual([1, expect.stringContaining('its current state cannot be read meanwhile')]);
    }));
});

test('the figures follow when a snapshot is deleted', () =>
  withTemporaryFolder((folder) => {
    const image = makeDays(folder);
    deleteSnapshot(image, 'monday');
    const [tuesday] = json('list', image).snapshots;
    expect(tuesday).toMatchObject({ usedBytes: 5 * 64 * KIB, writtenBytes: 14 * 64 * KIB });
  }));

/** Compressed clusters of 4 GiB of the disk, each in another part of a file that is not there. */
function scatterCompressed(image: string): void {
  const clusterBytes = 64 * KIB;
  const fd = fs.openSync(image, 'r+');
  const head = Buffer.alloc(48);
  fs.readSync(fd, head, 0, 48, 0);
  const end = Math.ceil(fs.fstatSync(fd).size / clusterBytes) * clusterBytes;
  for (let table = 0; table < 8; table++) {
    const rows = Buffer.alloc(clusterBytes);
    for (let row = 0; row < 8192; row++) {
      rows.writeBigUInt64BE((1n << 62n) | (BigInt(table * 8192 + row + 1) << 28n), row * 8);
    }
    const offset = end + table * clusterBytes;
    fs.writeSync(fd, rows, 0, clusterBytes, offset);
    const entry = Buffer.alloc(8);
    entry.writeBigUInt64BE(BigInt(offset));
    fs.writeSync(fd, entry, 0, 8, Number(head.readBigUInt64BE(40)) + table * 8);
  }
  fs.closeSync(fd);
}

describe('a crafted image', () => {
  test('with compressed data all over the file takes no more memory than an image of its size can', () =>
    withTemporaryFolder((folder) => {
      const image = `${folder}/disk.qcow2`;
      createImage(image, { sizeBytes: 16 * 1024 * MIB });
      scatterCompressed(image);
      const { stdout, stderr, status } = qcow2fs('list', '--json', image);
      expect(status).toBe(0);
      expect(JSON.parse(stdout).current.referBytes).toBeNull();
      expect(stderr).toContain('the tables are more work than those of an image of its size');
    }));

  test('without a usable table of its current state has no map or diff of that', () =>
    withTemporaryFolder((folder) => {
      const image = makeDays(folder);
      const fd = fs.openSync(image, 'r+');
      fs.writeSync(fd, Buffer.from([0, 0, 0, 0]), 0, 4, 36);
      fs.closeSync(fd);
      for (const args of [
        ['map', '--json', image],
        ['diff', '--json', image, 'tuesday', 'current'],
      ]) {
        const { stdout, stderr, status } = qcow2fs(...args);
        expect(status).toBe(1);
        expect(stdout).toBe('');
        expect(stderr).toContain('l1_size is 0');
      }
      expect(qcow2fs('map', image, 'tuesday').stdout).toContain('data');
    }));

  test('counts as changed what the lost table of a snapshot maps', () =>
    withTemporaryFolder((folder) => {
      const image = `${folder}/disk.qcow2`;
      createImage(image, { sizeBytes: 16 * MIB });
      createSnapshot(image, 'lost');
      const fd = fs.openSync(image, 'r+');
      const head = Buffer.alloc(8);
      fs.readSync(fd, head, 0, 8, 64);
      fs.writeSync(fd, Buffer.from([0, 0, 1, 0, 0, 0, 0, 0]), 0, 8, Number(head.readBigUInt64BE()));
      fs.closeSync(fd);
      const { stdout, status } = qcow2fs('diff', '--json', image, 'lost', 'current');
      expect(status).toBe(1);
      expect(JSON.parse(stdout).ranges).toEqual([{ start: 0, length: 16 * MIB }]);
    }));
});

test('what is damaged is in the map as data without a place, with a warning and exit status 1', () =>
  withTemporaryFolder((folder) => {
    const image = makeDays(folder);
    damageActiveTable(image);
    const { status, stdout, stderr } = qcow2fs('map', '--json', image);
    expect(status).toBe(1);
    expect(JSON.parse(stdout)).toEqual([
      { start: 0, length: 16 * MIB, depth: 0, present: true, zero: false, data: true },
    ]);
    expect(stderr).toContain('the tables of 16777216 bytes are damaged');
    expect(qcow2fs('map', image, 'monday').status).toBe(0);
  }));
