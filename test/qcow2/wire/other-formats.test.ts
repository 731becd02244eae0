import fs from 'node:fs';
import { expect, test } from 'vitest';
import { GUESS_BYTES, guessFormat } from '../../../src/qcow2/wire/other-formats.ts';
import { runCommand } from '../../support/run-command.ts';
import { withTemporaryFolder } from '../../support/temporary-folder.ts';

test.each([
  ['vmdk', 'a VMDK image'],
  ['vdi', 'a VDI image'],
  ['vhdx', 'a VHDX image'],
  ['vpc', 'a VHD image'],
  ['qed', 'a QED image'],
])('an image that qemu-img makes as %s looks like %s', (format, name) =>
  withTemporaryFolder((folder) => {
    runCommand('qemu-img', ['create', '-q', '-f', format, `${folder}/disk`, '8M']);
    expect(guessFormat(fs.readFileSync(`${folder}/disk`).subarray(0, GUESS_BYTES))).toBe(name);
  }),
);

test.each([
  ['ext4', 'a raw ext2, ext3 or ext4 file system', ['mkfs.ext4', '-q', '-F']],
  ['xfs', 'a raw XFS file system', ['mkfs.xfs', '-q']],
])('a file system made as %s looks like %s', (_, name, [command = '', ...args]) =>
  withTemporaryFolder((folder) => {
    runCommand('truncate', ['-s', '320M', `${folder}/disk`]);
    runCommand(command, [...args, `${folder}/disk`]);
    const head = Buffer.alloc(GUESS_BYTES);
    const fd = fs.openSync(`${folder}/disk`, 'r');
    fs.readSync(fd, head);
    fs.closeSync(fd);
    expect(guessFormat(head)).toBe(name);
  }),
);

test('a disk with a GPT is not taken for its boot sector, and text for nothing', () =>
  withTemporaryFolder((folder) => {
    runCommand('truncate', ['-s', '8M', `${folder}/disk`]);
    runCommand('sfdisk', ['--quiet', `${folder}/disk`], { input: 'label: gpt\n,4M\n' });
    expect(guessFormat(fs.readFileSync(`${folder}/disk`).subarray(0, GUESS_BYTES))).toBe('a raw disk with a GPT');
    expect(guessFormat(Buffer.from('hello'))).toBeUndefined();
    expect(guessFormat(Buffer.alloc(0))).toBeUndefined();
  }));
