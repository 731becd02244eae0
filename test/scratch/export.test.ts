/** A changed view becomes a qcow2 image: QEMU says whether it is one, and what it holds. */

import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { createSnapshot } from '../oracle/qemu.ts';
import { QCOW2FS, withScratch } from '../support/mounted-image.ts';
import { runCommand, tryCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

/** The snapshot `monday` differs from the current state; returns its bytes with what `writeTo` writes. */
function makeImage(folder: string): { readonly image: string; readonly expected: string } {
  const [image, expected] = ['disk.qcow2', 'expected.raw'].map((name) => path.join(folder, name)) as [string, string];
  runCommand('qemu-img', ['create', '-q', '-f', 'qcow2', image, '10M']);
  runCommand('qemu-io', ['-f', 'qcow2', '-c', 'write -q -P 1 0 4M', image]);
  createSnapshot(image, 'monday');
  runCommand('qemu-img', ['convert', '-O', 'raw', image, expected]);
  runCommand('qemu-io', ['-f', 'qcow2', '-c', 'write -q -P 2 1M 6M', image]);
  return { image, expected };
}

function writeTo(disk: string): void {
  runCommand('qemu-io', ['-f', 'raw', '-c', 'write -q -P 9 1234567 70001', '-c', 'write -q -P 7 8M 64k', disk]);
}

function expectImage(file: string, expected: string): void {
  runCommand('qemu-img', ['check', '-q', file]);
  runCommand('qemu-img', ['compare', '-q', '-f', 'raw', '-F', 'qcow2', expected, file]);
}

const backingOf = (file: string) =>
  JSON.parse(runCommand('qemu-img', ['info', '--output=json', file]))['full-backing-filename'];

test.each([false, true])('when it is unmounted (flat: %s)', (isFlat) =>
  withTemporaryFolder(async (folder) => {
    const { image, expected } = makeImage(folder);
    const exported = path.join(folder, 'repaired.qcow2');
    const options = ['--export', exported, ...(isFlat ? ['--flat'] : [])];
    await withScratch(image, 'monday', (mountpoint) => writeTo(`${mountpoint}/disk.raw`), { options });
    writeTo(expected);
    expectImage(exported, expected);
    expect(backingOf(exported)).toBe(isFlat ? undefined : image);
    // The changes are in the image now.
    expect(fs.existsSync(`${exported}.delta`)).toBe(false);
  }),
);

test('by command, with changes that were kept', () =>
  withTemporaryFolder(async (folder) => {
    const { image, expected } = makeImage(folder);
    const [delta, exported] = [path.join(folder, 'delta'), path.join(folder, 'repaired.qcow2')];
    const args = ['export', image, 'monday', exported, '--delta', delta];
    expect(tryCommand(QCOW2FS, args)).toMatchObject({ status: 1, stderr: expect.stringContaining('no such file') });
    await withScratch(
      image,
      'monday',
      (mountpoint) => {
        writeTo(`${mountpoint}/disk.raw`);
        expect(tryCommand(QCOW2FS, args)).toMatchObject({ status: 1, stderr: expect.stringContaining('in use') });
      },
      { options: ['--delta', delta] },
    );
    writeTo(expected);
    runCommand(QCOW2FS, args);
    expectImage(exported, expected);
    const other = tryCommand(QCOW2FS, ['export', image, 'current', path.join(folder, 'other'), '--delta', delta]);
    expect(other).toMatchObject({ status: 1, stderr: expect.stringContaining('is the delta of monday') });
  }));

test('what cannot be exported keeps its changes, and says so', () =>
  withTemporaryFolder(async (folder) => {
    const { image, expected } = makeImage(folder);
    const [log, full, mountpoint] = ['log', 'full', 'mnt'].map((name) => path.join(folder, name)) as [
      string,
      string,
      string,
    ];
    fs.mkdirSync(full);
    fs.mkdirSync(mountpoint);
    runCommand('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', full]);
    try {
      const [exported, delta] = [path.join(full, 'repaired.qcow2'), path.join(folder, 'delta')];
      const scratch = [
        'scratch',
        '--export',
        exported,
        '--delta',
        delta,
        '--log-file',
        log,
        image,
        'monday',
        mountpoint,
      ];
      runCommand(QCOW2FS, scratch);
      writeTo(`${mountpoint}/disk.raw`);
      expect(tryCommand(QCOW2FS, ['umount', mountpoint])).toMatchObject({
        status: 1,
        stderr: expect.stringContaining(`${exported} was not made`),
      });
      expect(fs.readFileSync(log, 'utf8')).toMatch(/No space left|no space left/);
      expect(fs.readFileSync(log, 'utf8')).toContain(`the changes are in ${delta}`);
      expect(fs.readdirSync(full)).toEqual([]);
      writeTo(expected);
      const elsewhere = path.join(folder, 'repaired.qcow2');
      runCommand(QCOW2FS, ['export', image, 'monday', elsewhere, '--delta', delta]);
      expectImage(elsewhere, expected);
    } finally {
      runCommand('umount', [full]);
    }
  }));

test('a file that is there is refused before anything is mounted, and stays as it is', () =>
  withTemporaryFolder((folder) => {
    const { image } = makeImage(folder);
    const mountpoint = path.join(folder, 'mnt');
    fs.mkdirSync(mountpoint);
    for (const taken of [image, path.join(folder, 'expected.raw')]) {
      const before = fs.statSync(taken, { bigint: true }).mtimeNs;
      const { status, stderr } = tryCommand(QCOW2FS, ['scratch', '--export', taken, image, 'monday', mountpoint]);
      expect({ status, stderr }).toEqual({
        status: 1,
        stderr: `qcow2fs: ${taken} is there already, and nothing is overwritten: choose another name\n`,
      });
      expect(fs.statSync(taken, { bigint: true }).mtimeNs).toBe(before);
    }
  }));
