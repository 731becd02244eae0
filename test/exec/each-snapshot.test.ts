/** `qcow2fs exec --each-snapshot`. */

import fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { readWeek, weekImagePath } from '../../src/demo/week.ts';
import { listStates } from '../../src/exec/each-state.ts';
import { LUKS } from '../mounted/encrypted-image.ts';
import { withMachine } from '../mounted/live-machine.ts';
import { makeSmallDisk, replaceDisk, SMALL_DISK_BYTES } from '../mounted/partitioned-image.ts';
import { changeSnapshot, createEncryptedImage } from '../oracle/encrypted.ts';
import { createImage, createSnapshot, listSnapshots } from '../oracle/qemu.ts';
import { runCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { readBytes, writeBytes } from '../volumes/partitioned-disk.ts';
import { whileUnchanged, withExec } from './exec-place.ts';

const GOOD_DAYS = ['monday', 'tuesday', 'wednesday', 'thursday'];
const TABLE = 'label: gpt\nstart=1MiB,size=16MiB\n';
/** Columns are two blanks apart. */
const rowsOf = (stdout: string) =>
  stdout
    .trimEnd()
    .split('\n')
    .map((line) => line.split(/ {2,}/));

test('prints a row for each state, and ends with 1 as one of them is bad', () =>
  withExec(({ exec, temporary }) =>
    whileUnchanged(weekImagePath, () => {
      const query = ['sqlite3', 'shop.db', 'PRAGMA integrity_check'];
      const { status, stdout, stderr } = exec([weekImagePath, '--each-snapshot', 'p1', '--', ...query]);
      const [headings, ...rows] = rowsOf(stdout);
      expect(headings).toEqual(['STATE', 'DATE', 'EXIT', 'LAST LINE']);
      const states = readWeek().states.map(({ name, date }) => [name, date ?? '-']);
      expect(rows.map((row) => row.slice(0, 2))).toEqual([
        ...states.filter(([name]) => name !== 'current'),
        ['current', '-'],
      ]);
      for (const [name = '', , exit, lastLine] of rows) {
        expect([name, lastLine === 'ok']).toEqual([name, GOOD_DAYS.includes(name)]);
        if (lastLine === 'ok') expect(exit).toBe('0');
      }
      expect([status, stderr]).toEqual([1, '']);
      expect(fs.readdirSync(temporary)).toEqual([]);
    }),
  ));

test('--json says the same, exactly', () =>
  withExec(({ exec }) => {
    const script = 'printf "first\\nlast \\033[1m line\\n\\n"; echo problem >&2; cat';
    const { status, stdout } = exec(['--each-snapshot', '--json', weekImagePath, '--', 'sh', '-c', script], {
      input: 'x',
    });
    const { states } = readWeek();
    const ended = { exitCode: 0, lastLine: 'last \u001b[1m line', error: null };
    const snapshots = states.filter(({ id }) => id !== null);
    expect(JSON.parse(stdout)).toEqual([
      ...snapshots.map(({ id, name, date }) => ({ state: `id:${id}`, name, id, date, ...ended })),
      { state: 'current', name: null, id: null, date: null, ...ended },
    ]);
    expect(status).toBe(0);
  }));

test('the last line is of standard error where there is no other, is printable, and may follow on much', () =>
  withExec(({ exec }) => {
    const script = 'head -c 30000000 /dev/zero | tr "\\0" x >&2; printf "\\nend\\033[2J\\n" >&2';
    const { status, stdout } = exec([weekImagePath, '--each-snapshot', '--', 'sh', '-c', script]);
    expect(status).toBe(0);
    const [, ...rows] = rowsOf(stdout);
    expect(new Set(rows.map(([, , exit, lastLine]) => `${exit} ${lastLine}`))).toEqual(new Set(['0 end\\x1b[2J']));
  }));

test('a state without the volume has its reason in the table, and so has one that a machine writes to', () =>
  withExec(async ({ exec, folder }) => {
    const [raw, image] = [`${folder}/disk.raw`, `${folder}/disk.qcow2`];
    createImage(image, { sizeBytes: SMALL_DISK_BYTES });
    createSnapshot(image, 'none');
    makeSmallDisk(raw, TABLE, 'data');
    replaceDisk(image, raw);
    createSnapshot(image, 'full');
    await withMachine(image, async () => {
      const words = ['--each-snapshot', image, 'data', '--', 'ls'];
      const { status, stdout } = exec(words);
      const rows = rowsOf(stdout).slice(1);
      expect(rows.map(([state, , exit]) => [state, exit])).toEqual([
        ['none', '-'],
        ['full', '0'],
        ['current', '-'],
      ]);
      const [none, full, current] = rows.map((row) => row[3]);
      expect(none).toMatch(/no volume data: it has no volumes/);
      expect(full).toBe('lost+found');
      expect(current).toMatch(/disk\.qcow2 is being written to: its current state cannot be read meanwhile/);
      expect(status).toBe(1);
      const json = JSON.parse(exec(['--json', ...words]).stdout);
      expect(json).toMatchObject([
        { name: 'none', exitCode: null, error: none },
        { name: 'full', exitCode: 0, error: null },
        { state: 'current', exitCode: null, error: current },
      ]);
    });
  }));

test('a volume that may be several is wrong usage', () =>
  withExec(async ({ exec, folder }) => {
    const [raw, image] = [`${folder}/disk.raw`, `${folder}/disk.qcow2`];
    makeSmallDisk(raw, 'label: gpt\nstart=1MiB,size=16MiB\nstart=17MiB,size=4MiB\n', 'data');
    const part = `${raw}.part`;
    fs.writeFileSync(part, '');
    fs.truncateSync(part, 4 << 20);
    runCommand('mkfs.ext4', ['-q', part]);
    writeBytes(raw, 17 << 20, fs.readFileSync(part));
    replaceDisk(image, raw);
    createSnapshot(image, 'night');
    const { status, stdout, stderr } = exec(['--each-snapshot', image, '--', 'true']);
    expect([status, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(/^qcow2fs: night has several file systems: name one of p1 \(.*\), p2 \(.*\)\n$/);
  }));

test('SIGTERM ends the command, and there are no more of them', () =>
  withExec(async ({ start, folder }) => {
    const started = start([
      weekImagePath,
      '--each-snapshot',
      '--',
      'sh',
      '-c',
      `echo once >> ${folder}/log; exec sleep 1000`,
    ]);
    while (!fs.existsSync(`${folder}/log`)) await sleep(10);
    started.process.kill('SIGTERM');
    expect(await started.ended).toBe(143);
    expect(fs.readFileSync(`${folder}/log`, 'utf8')).toBe('once\n');
  }));

test('an encrypted image needs its passphrase once', () =>
  withExec(async ({ exec, folder }) => {
    const [raw, image, key] = [`${folder}/disk.raw`, `${folder}/disk.qcow2`, `${folder}/key`];
    makeSmallDisk(raw, TABLE, 'data');
    fs.writeFileSync(key, 'correct horse');
    const encrypted = { path: image, passphrase: 'correct horse', options: LUKS, sizeBytes: SMALL_DISK_BYTES };
    createEncryptedImage(encrypted);
    runCommand('qemu-img', [
      ...['convert', '-n', '--object', `secret,id=key,file=${key}`, '-f', 'raw', raw],
      ...['--target-image-opts', `driver=qcow2,encrypt.key-secret=key,file.filename=${image}`],
    ]);
    for (const name of ['monday', 'tuesday']) changeSnapshot(encrypted, '-c', name);
    const words = ['--passphrase-file', '-', '--each-snapshot', image, 'data', '--', 'ls'];
    const { status, stdout } = exec(words, { input: 'correct horse\n' });
    expect(rowsOf(stdout).map((row) => [row[0], row[3]])).toEqual([
      ...[
        ['STATE', 'LAST LINE'],
        ['monday', 'lost+found'],
        ['tuesday', 'lost+found'],
      ],
      ['current', 'lost+found'],
    ]);
    expect(status).toBe(0);
    const wrong = exec(words, { input: 'battery staple\n' });
    expect([wrong.status, wrong.stdout]).toEqual([125, '']);
    expect(wrong.stderr).toMatch(/^qcow2fs: [^\n]*the passphrase is wrong[^\n]*\n$/);
  }));

/** The offset of `date_sec` in an entry of the snapshot table (docs/interop/qcow2.txt), and of the table's offset in the header. */
const DATE_OFFSET = 16;
const TABLE_OFFSET_OFFSET = 64;

test('the order is that of the dates, whatever the order in the table', () =>
  withTemporaryFolder((folder) => {
    const image = `${folder}/disk.qcow2`;
    createImage(image, { sizeBytes: SMALL_DISK_BYTES });
    for (const name of ['first', 'second']) createSnapshot(image, name);
    const table = Number(readBytes(image, TABLE_OFFSET_OFFSET, 8).readBigUInt64BE());
    const date = Buffer.alloc(4);
    date.writeUInt32BE(4_000_000_000);
    writeBytes(image, table + DATE_OFFSET, date);
    expect(listSnapshots(image).map(({ name }) => name)).toEqual(['first', 'second']);
    expect(listStates(image).map(({ label, date: shown }) => [label, shown?.slice(0, 4)])).toEqual([
      ['second', expect.stringMatching(/^20/)],
      ['first', '2096'],
      ['current', undefined],
    ]);
  }));
