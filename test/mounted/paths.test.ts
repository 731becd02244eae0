/** Paths that are easily taken for others. */

import fs from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { runCommand } from '../support/run-command.ts';
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
