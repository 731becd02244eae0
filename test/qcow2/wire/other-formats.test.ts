import fs from 'node:fs';
import { expect, test } from 'vitest';
import { FOOTER_BYTES, GUESS_BYTES, guessFormat, guessFormatByFooter } from '../../../src/qcow2/wire/other-formats.ts';
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

test('a VHD image of fixed size is told by its end', () =>
  withTemporaryFolder((folder) => {
    const options = ['-o', 'subformat=fixed,force_size=on'];
    runCommand('qemu-img', ['create', '-q', '-f', 'vpc', ...options, `${folder}/disk`, '8M']);
    const bytes = fs.readFileSync(`${folder}/disk`);
    expect(guessFormat(bytes.subarray(0, GUESS_BYTES))).toBeUndefined();
    expect(guessFormatByFooter(bytes.subarray(-FOOTER_BYTES))).toBe('a VHD image');
    expect(guessFormatByFooter(bytes.subarray(0, FOOTER_BYTES))).toBeUndefined();
  }));

// `printf hello | bzip2 | head -c 12`, and so on.
test.each([
  ['1f8b0800000000000003cb48', 'a gzip file'],
  ['425a68393141592653591931', 'a bzip2 file'],
  ['fd377a585a000004e6d6b446', 'an xz file'],
])('%s looks like %s', (head, name) => {
  expect(guessFormat(Buffer.from(head, 'hex'))).toBe(name);
});

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
