/** Paths that are easily taken for others. */

import fs from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { runCommand, tryCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

const PACKAGE = fileURLToPath(new URL('../../', import.meta.url));

function mounted(): string {
  return fs.readFileSync('/proc/self/mountinfo', 'utf8');
}

test('the program may lie in a folder with any name', () =>
  withTemporaryFolder((folder) => {
    const program = `${folder}/my 100% é #1`;
    fs.mkdirSync(`${program}/bin`, { recursive: true });
    for (const name of ['bin/qcow2fs', 'dist', 'package.json'])
      fs.cpSync(`${PACKAGE}${name}`, `${program}/${name}`, { recursive: true });
    fs.symlinkSync(`${PACKAGE}node_modules`, `${program}/node_modules`);
    runCommand('qemu-img', ['create', '-q', '-f', 'qcow2', `${folder}/disk.qcow2`, '1M']);
    fs.mkdirSync(`${folder}/mnt`);
    runCommand(`${program}/bin/qcow2fs`, ['mount', `${folder}/disk.qcow2`, `${folder}/mnt`]);
    try {
      expect(fs.readdirSync(`${folder}/mnt`)).toContain('current');
    } finally {
      runCommand(`${program}/bin/qcow2fs`, ['umount', `${folder}/mnt`]);
    }
  }));

test('a mountpoint behind a symlink and .. is where the kernel finds it', () =>
  withTemporaryFolder((folder) => {
    const launcher = `${PACKAGE}bin/qcow2fs`;
    runCommand('qemu-img', ['create', '-q', '-f', 'qcow2', `${folder}/disk.qcow2`, '1M']);
    fs.mkdirSync(`${folder}/a/b`, { recursive: true });
    for (const name of ['a/dir', 'dir']) fs.mkdirSync(`${folder}/${name}`);
    fs.symlinkSync('a/b', `${folder}/link`);
    runCommand(launcher, ['mount', 'disk.qcow2', 'link/../dir'], { cwd: folder });
    try {
      expect(mounted()).toContain(` ${folder}/a/dir `);
      expect(mounted()).not.toContain(` ${folder}/dir `);
    } finally {
      runCommand(launcher, ['umount', 'link/../dir'], { cwd: folder });
    }
    expect(mounted()).not.toContain(` ${folder}/a/dir `);
  }));

test('an image whose path is not UTF-8 cannot be named, but be reached by a symlink', () =>
  withTemporaryFolder((folder) => {
    const launcher = `${PACKAGE}bin/qcow2fs`;
    // Only a shell can make and name such files.
    runCommand('bash', ['-c', "mkdir mnt $'\\xfe' && qemu-img create -q -f qcow2 $'\\xfe/\\xff' 1M"], { cwd: folder });
    for (const command of ["info $'\\xfe/\\xff'", "mount $'\\xfe/\\xff' mnt"]) {
      const { status, stderr } = tryCommand('bash', ['-c', `${launcher} ${command}`], { cwd: folder });
      expect(status).toBe(1);
      expect(stderr).toMatch(/^qcow2fs: [^\n]*no such file; a path that is not UTF-8 cannot be given[^\n]*\n$/);
    }
    runCommand('bash', ['-c', "ln -s $'\\xfe/\\xff' file && ln -s $'\\xfe' way"], { cwd: folder });
    for (const name of ['file', "way/$'\\xff'"]) {
      const { status } = tryCommand('bash', ['-c', `${launcher} mount ${name} mnt`], { cwd: folder });
      expect(status, name).toBe(name === 'file' ? 0 : 1);
      if (status === 0) runCommand(launcher, ['umount', 'mnt'], { cwd: folder });
    }
  }));

test('a mountpoint whose path is not UTF-8 is refused in one line', () =>
  withTemporaryFolder((folder) => {
    runCommand('qemu-img', ['create', '-q', '-f', 'qcow2', `${folder}/disk.qcow2`, '1M']);
    const script = `mkdir $'\\xfd' && exec ${PACKAGE}bin/qcow2fs mount disk.qcow2 $'\\xfd'`;
    const { status, stderr } = tryCommand('bash', ['-c', script], { cwd: folder });
    expect(status).toBe(1);
    expect(stderr).toMatch(/^qcow2fs: cannot mount on [^\n]*a path that is not UTF-8 cannot be given[^\n]*\n$/);
    expect(mounted()).not.toContain(folder);
  }));
