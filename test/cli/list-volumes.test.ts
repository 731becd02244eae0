/** `qcow2fs list --volumes`, beside sfdisk, blkid and the lvm2 tools. */

import fs from 'node:fs';
import { describe, expect, test } from 'vitest';
import { withMachine } from '../mounted/live-machine.ts';
import { createSnapshot } from '../oracle/qemu.ts';
import { QCOW2FS } from '../support/mounted-image.ts';
import { runCommand, tryCommand } from '../support/run-command.ts';
import { runMeasuring } from '../support/run-measuring.mjs';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { createLinear, withLvm } from '../volumes/lvm/lvm-tools.ts';
import { MIB, runSfdisk } from '../volumes/partitioned-disk.ts';

const EXT4_START_BYTES = 1 * MIB;
const FAT_START_BYTES = 9 * MIB;
const HEADING = 'STATE VOLUME START SIZE TYPE FILE SYSTEM LABEL UUID DIRTY';

interface Listing {
  readonly image: string;
  readonly states: readonly {
    readonly state: string;
    readonly name: string | null;
    readonly partitionTable: object | null;
    readonly volumes: readonly {
      readonly name: string;
      readonly startBytes: number | null;
      readonly fileSystem: object | null;
    }[];
    readonly volumeProblems: readonly string[];
  }[];
}

const list = (image: string, ...options: readonly string[]) =>
  tryCommand(QCOW2FS, ['list', image, '--volumes', ...options]);
const listJson = (image: string, ...options: readonly string[]): Listing =>
  JSON.parse(runCommand(QCOW2FS, ['list', image, '--volumes', '--json', ...options]));

/** Columns are two blanks apart; LABEL is the only one that may have others in it. */
const cellsOf = (line = '') => line.trim().split(/ {2,}/);

/** A raw disk with two file systems. */
function writeDisk(path: string): void {
  fs.writeFileSync(path, '');
  fs.truncateSync(path, 16 * MIB);
  runSfdisk(path, 'label: gpt\nstart=2048, size=16384, name="root"\nstart=18432, size=8192, type=uefi, name="esp"\n');
  const labels = ['-L', 'root', '-E', `offset=${EXT4_START_BYTES}`];
  runCommand('mkfs.ext4', ['-q', '-F', ...labels, path, '8192k']);
  runCommand('mkfs.vfat', ['--offset', '18432', '-n', 'ESP', path, '4096']);
}

function convertToQcow2(raw: string, image: string): void {
  runCommand('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, image]);
}

/** An image whose disk has two partitions in the snapshot `full`, and nothing in `none`; current is as `full`. */
async function withImage(body: (image: string, folder: string) => void | Promise<void>): Promise<void> {
  await withTemporaryFolder(async (folder) => {
    const [raw, image] = [`${folder}/disk.raw`, `${folder}/disk.qcow2`];
    writeDisk(raw);
    convertToQcow2(raw, image);
    createSnapshot(image, 'full');
    runCommand('qemu-io', ['-f', 'qcow2', '-c', 'write -q -z 0 16M', image]);
    createSnapshot(image, 'none');
    runCommand('qemu-img', ['snapshot', '-a', 'full', image]);
    await body(image, folder);
  });
}

/** What blkid says of the file system at an offset. */
function probe(raw: string, offsetBytes: number): { type?: string; label?: string; uuid?: string } {
  const output = runCommand('blkid', ['-p', '-o', 'export', '-O', String(offsetBytes), raw]);
  const values = new Map(output.split('\n').map((line) => line.split('=', 2) as [string, string]));
  return { type: values.get('TYPE') ?? '', label: values.get('LABEL') ?? '', uuid: values.get('UUID') ?? '' };
}

describe('list --volumes', () => {
  test('--json has for each state what sfdisk and blkid find on its disk', () =>
    withImage((image, folder) => {
      const listing = listJson(image);
      const { partitiontable: table } = JSON.parse(runCommand('sfdisk', ['--json', `${folder}/disk.raw`]));
      const volumes = [EXT4_START_BYTES, FAT_START_BYTES].map((startBytes, index) => ({
        name: `p${index + 1}`,
        startBytes,
        sizeBytes: table.partitions[index].size * table.sectorsize,
        partitionType: table.partitions[index].type,
        partitionLabel: table.partitions[index].name,
        partitionUuid: table.partitions[index].uuid.toLowerCase(),
        // FAT12 has no flag for it.
        fileSystem: {
          ...probe(`${folder}/disk.raw`, startBytes),
          dirty: startBytes === FAT_START_BYTES ? null : false,
        },
      }));
      const partitionTable = { kind: 'gpt', sectorBytes: 512, uuid: table.id.toLowerCase() };
      const full = { partitionTable, volumes, unsupportedVolumes: [], volumeProblems: [] };
      const none = { partitionTable: null, volumes: [], unsupportedVolumes: [], volumeProblems: [] };
      expect(listing).toEqual({
        image,
        states: [
          { state: 'current', name: null, ...full },
          { state: 'id:1', name: 'full', ...full },
          { state: 'id:2', name: 'none', ...none },
        ],
      });
    }));

  test('prints a table with a row for each volume, and one for a state that has none', () =>
    withImage((image, folder) => {
      const { status, stdout, stderr } = list(image);
      expect([status, stderr]).toEqual([0, '']);
      const [heading, ...rows] = stdout.trimEnd().split('\n');
      expect(cellsOf(heading).join(' ')).toBe(HEADING);
      const { type, label, uuid } = probe(`${folder}/disk.raw`, EXT4_START_BYTES);
      const table = JSON.parse(runCommand('sfdisk', ['--json', `${folder}/disk.raw`])).partitiontable;
      const p1 = ['p1', String(EXT4_START_BYTES), '8 MiB', table.partitions[0].type, type, label, uuid, 'no'];
      expect(rows.map((row) => cellsOf(row).slice(0, 2))).toEqual([
        ...[
          ['current', 'p1'],
          ['current', 'p2'],
          ['full', 'p1'],
          ['full', 'p2'],
        ],
        ['none', '-'],
      ]);
      expect(cellsOf(rows[0])).toEqual(['current', ...p1]);
      expect(cellsOf(rows[2])).toEqual(['full', ...p1]);
    }));

  test.each([
    ['current', 'current'],
    ['id:1', 'full'],
    ['full', 'full'],
    ['name:full', 'full'],
  ])('--state %s lists one state', (state, name) =>
    withImage((image) => {
      const rows = list(image, '--state', state).stdout.trimEnd().split('\n').slice(1).map(cellsOf);
      expect(rows.map((row) => row.slice(0, 2))).toEqual([
        [name, 'p1'],
        [name, 'p2'],
      ]);
      expect(listJson(image, '--state', state).states.map(({ volumes }) => volumes.length)).toEqual([2]);
    }),
  );

  test('a label cannot disturb the terminal or the table', () =>
    withTemporaryFolder((folder) => {
      const raw = `${folder}/disk.raw`;
      fs.writeFileSync(raw, '');
      fs.truncateSync(raw, 8 * MIB);
      runCommand('mkfs.ext4', ['-q', '-F', '-L', 'red\u001b[31m\nfull', raw]);
      convertToQcow2(raw, `${folder}/disk.qcow2`);
      const lines = list(`${folder}/disk.qcow2`).stdout.trimEnd().split('\n');
      expect(lines).toHaveLength(2);
      expect(cellsOf(lines[1])).toContain('red\\x1b[31m\\x0afull');
    }));

  test('a journal that wants to be replayed is dirty', () =>
    withTemporaryFolder((folder) => {
      const raw = `${folder}/disk.raw`;
      fs.writeFileSync(raw, '');
      fs.truncateSync(raw, 16 * MIB);
      runCommand('mkfs.ext4', ['-q', '-F', raw]);
      convertToQcow2(raw, `${folder}/clean.qcow2`);
      runCommand('debugfs', ['-w', '-R', 'feature needs_recovery', raw]);
      convertToQcow2(raw, `${folder}/dirty.qcow2`);
      expect(cellsOf(list(`${folder}/clean.qcow2`).stdout.trimEnd().split('\n')[1]).at(-1)).toBe('no');
      expect(cellsOf(list(`${folder}/dirty.qcow2`).stdout.trimEnd().split('\n')[1]).at(-1)).toBe('yes');
    }));

  test('shows logical volumes, and warns of those that it cannot show', () =>
    withLvm([32 * MIB], (world) => {
      const [device = ''] = world.devices;
      world.run('pvcreate', '-q', device);
      world.run('vgcreate', '-q', '-s', '1M', 'vg-0', device);
      createLinear(world, 'vg-0', 'root', 4);
      world.run('lvcreate', '-an', '-Zn', '-Wn', '-y', '-n', 'other', '--type', 'error', '-l', '2', 'vg-0');
      convertToQcow2(world.files[0] ?? '', `${world.folder}/disk.qcow2`);
      const { status, stdout, stderr } = list(`${world.folder}/disk.qcow2`);
      const rows = stdout.trimEnd().split('\n').slice(1).map(cellsOf);
      expect(rows.map(([, name, start, size, , type]) => [name, start, size, type])).toEqual([
        ['disk', '0', '32 MiB', 'LVM2_member'],
        ['vg--0-root', '-', '4 MiB', '-'],
      ]);
      expect(stderr).toMatch(/^qcow2fs: warning: current: vg-0\/other cannot be shown: [^\n]+\n$/);
      expect(status).toBe(0);
    }));

  test('reads through the backing chain, and says what it lacks without it', () =>
    withImage((image, folder) => {
      const above = `${folder}/above/disk.qcow2`;
      fs.mkdirSync(`${folder}/above`);
      runCommand('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', image, '-F', 'qcow2', above]);
      const refused = list(above);
      expect([refused.status, refused.stdout]).toEqual([1, '']);
      expect(refused.stderr).toMatch(/^qcow2fs: [^\n]*--allow-path[^\n]*\n$/);
      for (const options of [
        ['--allow-path', folder],
        ['--backing', image],
      ]) {
        expect(listJson(above, ...options).states).toEqual(
          listJson(image).states.filter(({ state }) => state === 'current'),
        );
      }
      const without = listJson(above, '--no-backing').states;
      expect(without.map(({ volumes }) => volumes)).toEqual([[]]);
      expect(without[0]?.volumeProblems).not.toEqual([]);
    }));

  test('reads an encrypted image with its passphrase, and fails without', () =>
    withTemporaryFolder((folder) => {
      const [raw, image] = [`${folder}/disk.raw`, `${folder}/disk.qcow2`];
      writeDisk(raw);
      fs.writeFileSync(`${folder}/right`, 'correct horse');
      fs.writeFileSync(`${folder}/wrong`, 'battery staple');
      runMeasuring('qemu-img', [
        ...['convert', '--object', `secret,id=key,file=${folder}/right`, '-f', 'raw', '-O', 'qcow2'],
        ...['-o', 'encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10', raw, image],
      ]);
      const [state] = listJson(image, '--passphrase-file', `${folder}/right`).states;
      expect(state?.volumes.map(({ name, startBytes }) => [name, startBytes])).toEqual([
        ['p1', EXT4_START_BYTES],
        ['p2', FAT_START_BYTES],
      ]);
      const { status, stdout, stderr } = list(image, '--passphrase-file', `${folder}/wrong`);
      expect([status, stdout]).toEqual([1, '']);
      expect(stderr).toMatch(/^qcow2fs: [^\n]*passphrase[^\n]*\n$/);
    }));

  test('beside a running machine: the snapshots, and why not the current state', () =>
    withImage((image) =>
      withMachine(image, async () => {
        const { status, stdout, stderr } = list(image);
        const rows = stdout.trimEnd().split('\n').slice(1).map(cellsOf);
        expect(rows.map((row) => row.slice(0, 2))).toEqual([
          ...[
            ['current', '-'],
            ['full', 'p1'],
            ['full', 'p2'],
          ],
          ['none', '-'],
        ]);
        expect(status).toBe(0);
        expect(stderr).toMatch(/^qcow2fs: warning: current: [^\n]* is written to by qemu-system[^\n]*\n$/);
        // Who asks for nothing else gets nothing.
        const current = list(image, '--state', 'current');
        expect([current.status, current.stdout]).toEqual([1, '']);
        expect(current.stderr).toMatch(/^qcow2fs: [^\n]* is written to by qemu-system[^\n]*\n$/);
        expect(list(image, '--state', 'full').status).toBe(0);
      }),
    ));

  test('leaves the image as it is', () =>
    withImage((image) => {
      const before = fs.readFileSync(image);
      const { mtimeNs } = fs.statSync(image, { bigint: true });
      list(image);
      expect(fs.readFileSync(image).equals(before)).toBe(true);
      expect(fs.statSync(image, { bigint: true }).mtimeNs).toBe(mtimeNs);
    }));
});

describe('wrong use of list --volumes', () => {
  test.each([
    ['a state that is not there', ['--volumes', '--state', 'gone'], 1, /no snapshot is called gone/],
    ['a name that two snapshots have', ['--volumes', '--state', 'twice'], 2, /id:1 \(twice, .*id:2 \(twice, /],
    ['no name of a state', ['--volumes', '--state', ''], 2, /--state is empty/],
    ['--state without --volumes', ['--state', 'current'], 2, /only with --volumes/],
    ['--no-backing without --volumes', ['--no-backing'], 2, /only with --volumes/],
  ])('%s is one line', (_, options, status, message) =>
    withTemporaryFolder((folder) => {
      const image = `${folder}/disk.qcow2`;
      runCommand('qemu-img', ['create', '-q', '-f', 'qcow2', image, '1M']);
      for (let count = 0; count < 2; count++) createSnapshot(image, 'twice');
      const result = tryCommand(QCOW2FS, ['list', image, ...options]);
      expect([result.status, result.stdout]).toEqual([status, '']);
      expect(result.stderr).toMatch(/^qcow2fs: [^\n]*\n$/);
      expect(result.stderr).toMatch(message);
    }),
  );
});
