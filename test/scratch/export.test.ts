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
        stderr: expect.stringMatching(/ was not exported: .*[nN]o space left.*; the changes are in \S*delta\n$/),
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

/** Two views with the same name for their export, the second with its own delta. */
async function withTwoViews(
  deltaOptions: readonly string[],
  body: (place: { folder: string; exported: string; first: string; second: string }) => void,
): Promise<void> {
  await withTemporaryFolder((folder) => {
    const { image } = makeImage(folder);
    const [first, second] = ['first', 'second'].map((name) => path.join(folder, name)) as [string, string];
    const exported = path.join(folder, 'repaired.qcow2');
    const mounted: string[] = [];
    const mount = (mountpoint: string, options: readonly string[]) => {
      fs.mkdirSync(mountpoint);
      const log = ['--log-file', `${mountpoint}.log`];
      runCommand(QCOW2FS, ['scratch', '--export', exported, ...log, ...options, image, 'monday', mountpoint]);
      mounted.push(mountpoint);
    };
    try {
      mount(first, []);
      if (deltaOptions.length === 0) fs.renameSync(`${exported}.delta`, path.join(folder, 'renamed'));
      mount(second, deltaOptions.length === 0 ? [] : [...deltaOptions, path.join(folder, 'delta')]);
      body({ folder, exported, first, second });
    } finally {
      for (const mountpoint of mounted) tryCommand('umount', ['-l', mountpoint]);
    }
  });
}

test('a name that was taken meanwhile is no success', () =>
  withTwoViews(['--delta'], ({ folder, exported, first, second }) => {
    writeTo(`${second}/disk.raw`);
    runCommand(QCOW2FS, ['umount', first]);
    const problem = `${exported} was not exported: ${exported} is there already, and nothing is overwritten: choose another name; the changes are in ${folder}/delta\n`;
    expect(tryCommand(QCOW2FS, ['umount', second])).toEqual({
      status: 1,
      stdout: '',
      stderr: `qcow2fs: ${second} is unmounted, but ${problem}`,
    });
    expect(fs.readFileSync(`${second}.log`, 'utf8')).toBe(`qcow2fs: ${problem}`);
  }));

test('the delta of another view that has taken its name stays', () =>
  withTwoViews([], ({ folder, exported, first, second }) => {
    writeTo(`${second}/disk.raw`);
    runCommand(QCOW2FS, ['umount', first]);
    runCommand('qemu-img', ['check', '-q', exported]);
    const { status, stderr } = tryCommand(QCOW2FS, ['umount', second]);
    expect({ status, stderr }).toEqual({
      status: 1,
      stderr: expect.stringContaining(`the changes are in ${exported}.delta\n`),
    });
    const [image, whole] = [path.join(folder, 'disk.qcow2'), path.join(folder, 'whole.qcow2')];
    runCommand(QCOW2FS, ['export', image, 'monday', whole, '--delta', `${exported}.delta`]);
    const expected = path.join(folder, 'expected.raw');
    writeTo(expected);
    expectImage(whole, expected);
  }));

test('a delta that was removed is told to be lost, if it is needed', () =>
  withTemporaryFolder((folder) => {
    const { image } = makeImage(folder);
    const [mountpoint, exported] = [path.join(folder, 'mnt'), path.join(folder, 'repaired.qcow2')];
    fs.mkdirSync(mountpoint);
    for (const isTaken of [false, true]) {
      runCommand(QCOW2FS, ['scratch', '--export', exported, image, 'monday', mountpoint]);
      fs.unlinkSync(`${exported}.delta`);
      if (isTaken) fs.writeFileSync(exported, 'of somebody else');
      expect(tryCommand(QCOW2FS, ['umount', mountpoint])).toMatchObject(
        isTaken
          ? {
              status: 1,
              stderr: expect.stringContaining(`the changes are lost, as somebody has removed ${exported}.delta`),
            }
          : { status: 0, stderr: '' },
      );
      expect(fs.existsSync(exported)).toBe(true);
      fs.unlinkSync(exported);
    }
  }));

test('umount that may not look at the process waits for it, and does not claim to know', () =>
  withTemporaryFolder((folder) => {
    const { image, expected } = makeImage(folder);
    const [mountpoint, exported] = [path.join(folder, 'mnt'), path.join(folder, 'repaired.qcow2')];
    fs.mkdirSync(mountpoint);
    runCommand(QCOW2FS, ['scratch', '--export', exported, image, 'monday', mountpoint]);
    writeTo(`${mountpoint}/disk.raw`);
    // As root in a container.
    const { status, stderr } = tryCommand('setpriv', ['--bounding-set=-sys_ptrace', QCOW2FS, 'umount', mountpoint]);
    writeTo(expected);
    expectImage(exported, expected);
    expect({ status, stderr }).toEqual({
      status: 1,
      stderr: `qcow2fs: ${mountpoint} is unmounted, but how its process has ended cannot be seen by this user, or from here; the log says if something went wrong\n`,
    });
  }));
