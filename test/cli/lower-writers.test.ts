/** Commands while a machine has a backing file open for writing: QEMU reads nothing of what stands on it then. */

import fs from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { qemuIo, whileRunning } from '../daemon/writers.ts';
import { createImage, createSnapshot, runQemuIo } from '../oracle/qemu.ts';
import { QCOW2FS } from '../support/mounted-image.ts';
import { runCommand, tryCommand } from '../support/run-command.ts';
import { createMemoryFolder } from '../support/temporary-folder.ts';

const SIZE_BYTES = 1024 * 1024;

let place: ReturnType<typeof createMemoryFolder>;
let folder: string;
let image: string;
let base: string;

beforeAll(() => {
  place = createMemoryFolder();
  folder = place.name;
  [base, image] = [`${folder}/base.qcow2`, `${folder}/disk.qcow2`];
  createImage(base, { sizeBytes: SIZE_BYTES });
  runQemuIo(base, [`write -q -P 1 0 ${SIZE_BYTES}`]);
  createImage(image, { sizeBytes: SIZE_BYTES, backing: { name: 'base.qcow2', format: 'qcow2' } });
  createSnapshot(image, 'monday');
  runQemuIo(image, ['write -q -P 2 0 64k']);
});
afterAll(() => place.removeCallback());

const whileWritten = (body: () => void) => whileRunning(qemuIo(base), body);

describe('one line says who writes to which file, and nothing is made:', () => {
  const commands: readonly (readonly string[])[] = [
    ['export', '--flat', 'disk.qcow2', 'monday', 'new.qcow2'],
    ['export', 'disk.qcow2', 'monday', 'new.qcow2'],
    ['export', '--flat', 'disk.qcow2', 'current', 'new.qcow2'],
    ['map', 'disk.qcow2', 'monday'],
    ['map', 'disk.qcow2'],
    ['diff', '--exact', 'disk.qcow2', 'monday', 'current'],
    ['diff', '--volumes', 'disk.qcow2', 'monday', 'current'],
    ['list', '--volumes', '--state', 'monday', 'disk.qcow2'],
  ];
  test.each(commands.map((command) => [command.join(' '), command]))('%s', (_, command) =>
    whileWritten(() => {
      const { status, stdout, stderr } = tryCommand(QCOW2FS, command, { cwd: folder });
      expect(stderr).toMatch(
        /^qcow2fs: \S*base\.qcow2 is written to by qemu-io \(process \d+\): \S*disk\.qcow2 stands on it, and none of its states can be read meanwhile\n$/,
      );
      expect([status, stdout]).toEqual([1, '']);
      expect(fs.existsSync(`${folder}/new.qcow2`)).toBe(false);
    }),
  );

  test('list --volumes has it for each state', () =>
    whileWritten(() => {
      const { status, stderr } = tryCommand(QCOW2FS, ['list', '--volumes', image]);
      const lines = stderr.trimEnd().split('\n');
      expect(lines).toHaveLength(2);
      for (const line of lines) expect(line).toMatch(/ (current|monday): .*base\.qcow2 is written to by qemu-io/);
      expect(status).toBe(0);
    }));

  test('exec runs nothing', () =>
    whileWritten(() => {
      const { status, stderr } = tryCommand(QCOW2FS, ['exec', image, 'monday', '--', 'true']);
      expect(stderr).toMatch(/base\.qcow2 is being written to: .*disk\.qcow2 stands on it, .*\n$/);
      expect(status).toBe(125);
    }));
});

test.each([
  ['list', 'disk.qcow2'],
  ['info', 'disk.qcow2'],
  ['check', 'disk.qcow2'],
  ['diff', 'disk.qcow2', 'monday', 'current'],
])('%s needs no backing file, and works', (...command) =>
  whileWritten(() => {
    const { status, stderr } = tryCommand(QCOW2FS, command, { cwd: folder });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  }),
);

test('once the machine is gone, all of it can be read', () => {
  runCommand(QCOW2FS, ['export', '--flat', image, 'monday', `${folder}/new.qcow2`]);
  runCommand('qemu-img', ['compare', '-f', 'qcow2', '-F', 'qcow2', `${folder}/new.qcow2`, base]);
});
