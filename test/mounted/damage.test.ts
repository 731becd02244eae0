/** Damaged images through a real mount: what is whole is read, what is not is an error and told wherever one looks. */

import fs from 'node:fs';
import { fileURLToPath } from 'node:url';
import tmp from 'tmp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { DamageRow } from '../oracle/damage-row.ts';
import { makeDamagedCopy, makeDamageSample, readTruth, STATE_NAMES, type StateName } from '../oracle/damage-sample.ts';
import { DAMAGE_TABLE } from '../oracle/damage-table.ts';
import { describeReading } from '../oracle/describe-reading.ts';
import { withMount } from '../support/mounted-image.ts';
import { tryCommand } from '../support/run-command.ts';

const QCOW2FS = fileURLToPath(new URL('../../bin/qcow2fs', import.meta.url));

const folder = tmp.dirSync({ prefix: 'qcow2fs-damage-', unsafeCleanup: true, mode: 0o755 });
const path = `${folder.name}/damaged.qcow2`;
const logFile = `${folder.name}/log`;
let healthy: string;
let truth: ReadonlyMap<StateName, Buffer>;

beforeAll(() => {
  healthy = makeDamageSample(folder.name);
  truth = readTruth(healthy, `${folder.name}/qemu.raw`);
});
afterAll(() => folder.removeCallback());

const mountable = DAMAGE_TABLE.filter(({ refused }) => refused === undefined);
const refused = DAMAGE_TABLE.filter((row) => row.refused !== undefined);

describe.each(mountable)('$title', (row) => {
  test('costs what it must in a mount, and is named there, by info and in the log', async () => {
    makeDamagedCopy(healthy, path, row.apply);
    fs.rmSync(logFile, { force: true });
    await withMount(path, (mountpoint) => expectRow(mountpoint, row), { options: ['--log-file', logFile] });
    const log = fs.readFileSync(logFile, 'utf8');
    for (const problem of row.problems) expect(log).toContain(problem);
    if (row.whenRead === undefined) expect(log.trimEnd().split('\n').filter(Boolean)).toHaveLength(row.problems.length);
    else expect(log).toContain(row.whenRead);
  });
});

function expectRow(mountpoint: string, row: DamageRow): void {
  const problems = row.problems.map((problem) => expect.stringContaining(problem));
  expect(JSON.parse(fs.readFileSync(`${mountpoint}/image.json`, 'utf8')).problems).toEqual(problems);
  const { status, stdout, stderr } = tryCommand(QCOW2FS, ['info', '--json', path]);
  expect([status, JSON.parse(stdout).problems]).toEqual([0, problems]);
  expect(stderr.split('\n').filter(Boolean)).toEqual(problems);
  const shown = STATE_NAMES.filter((state) => row.here[state] !== 'absent');
  expect(fs.readdirSync(`${mountpoint}/snapshots`)).toEqual(shown.filter((state) => state !== 'current'));
  for (const state of shown) {
    const disk = state === 'current' ? `${mountpoint}/current/disk.raw` : `${mountpoint}/snapshots/${state}/disk.raw`;
    const outcome = readMounted(disk, truth.get(state)?.subarray(0, fs.statSync(disk).size) ?? Buffer.alloc(0));
    expect(outcome, state).toBe(row.here[state].replaceAll(/DAMAGED|PAST_END/g, 'EIO'));
  }
}

function readMounted(file: string, expected: Buffer): string {
  let fd: number | undefined;
  const read = (offset: number, length: number): Buffer => {
    // Again and again for a disk that cannot be opened: all of it is an error then.
    fd ??= fs.openSync(file, 'r');
    const target = Buffer.alloc(length, 0xee);
    expect(fs.readSync(fd, target, 0, length, offset)).toBe(length);
    return target;
  };
  try {
    return describeReading(expected, read, (error) => (error as NodeJS.ErrnoException).code ?? String(error));
  } finally {
    if (fd !== undefined) fs.closeSync(fd);
  }
}

test.each(refused)('$title: is not mounted, and one line says why', ({ apply }) => {
  makeDamagedCopy(healthy, path, apply);
  const mountpoint = `${folder.name}/mnt`;
  fs.mkdirSync(mountpoint, { recursive: true });
  const { status, stdout, stderr } = tryCommand(QCOW2FS, ['mount', path, mountpoint]);
  expect([status, stdout]).toEqual([1, '']);
  expect(stderr).toMatch(/^qcow2fs: [^\n]*\n$/);
  expect(stderr).toContain(path);
});
