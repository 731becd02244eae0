/** What names lead to, beside realpath(3) and the names that the kernel has for open files. */

import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { openFile } from '../../src/storage/file-storage.ts';
import { pinFile, unpinFile } from '../../src/storage/pinned-file.ts';
import { catchError } from '../support/catch-error.ts';
import { countDescriptors } from '../support/descriptors.ts';
import { runCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

const LINKS: Readonly<Record<string, string>> = {
  plain: 'a/b/file',
  absolute: 'FOLDER/a/b/file',
  twice: 'plain',
  up: 'a/../a/b/../b/file',
  // The parent of what a symlink leads to, not of the symlink.
  far: 'a/b',
  loop: 'loop',
  dangling: 'nowhere/x',
};

function withFiles(body: (folder: string) => void): Promise<void> {
  return withTemporaryFolder((given) => {
    const folder = fs.realpathSync(given);
    fs.mkdirSync(`${folder}/a/b`, { recursive: true });
    fs.writeFileSync(`${folder}/a/b/file`, 'bytes');
    for (const [link, target] of Object.entries(LINKS)) {
      fs.symlinkSync(target.replace('FOLDER', folder), path.join(folder, link));
    }
    body(folder);
  });
}

test.each([
  ['a/b/file', 'a/b'],
  ['.//a/./b//file', 'a/b'],
  ['plain', ''],
  ['absolute', ''],
  ['twice', ''],
  ['up', ''],
  ['far/file', 'a/b'],
  ['far/../b/file', 'a/b'],
  ['a/../../../../../../../../../../FOLDER/plain', ''],
  [`${'../'.repeat(1000)}FOLDER/plain`, ''],
])('%s leads where realpath(3) says', (name, nameFolder) =>
  withFiles((folder) => {
    const given = `${folder}/${name.replace('FOLDER', folder)}`;
    const before = countDescriptors();
    const pinned = pinFile(given);
    try {
      expect(countDescriptors()).toBe(before + 1);
      expect(pinned.realPath).toBe(`${folder}/a/b/file`);
      expect(pinned.realPath).toBe(fs.realpathSync.native(given));
      expect(fs.readlinkSync(pinned.openPath)).toBe(pinned.realPath);
      expect(pinned.nameFolder).toBe(path.join(folder, nameFolder).replace(/\/$/, ''));
    } finally {
      unpinFile(pinned);
    }
    expect(countDescriptors()).toBe(before);
  }),
);

test.each([
  ['gone', 'NOT_FOUND', 'no such file'],
  ['dangling', 'NOT_FOUND', 'no such file'],
  ['loop', 'IO', 'too many symlinks'],
  ['a/b/file/', 'IO', 'ENOTDIR: not a directory'],
  ['a/b/file/.', 'IO', 'ENOTDIR: not a directory'],
  ['a/b/file/../file', 'IO', 'ENOTDIR: not a directory'],
  ['plain/', 'IO', 'ENOTDIR: not a directory'],
  [`a/${'x'.repeat(300)}`, 'IO', 'ENAMETOOLONG: name too long'],
])('%s is refused as %s: %s', (name, code, text) =>
  withFiles((folder) => {
    const before = countDescriptors();
    expect(() => fs.realpathSync.native(`${folder}/${name}`)).toThrow();
    const error = catchError(() => pinFile(`${folder}/${name}`));
    expect(error.code).toBe(code);
    expect(error.message).toContain(`${folder}/${name}: `);
    expect(error.message).toContain(text);
    expect(error.message).not.toContain('/proc');
    expect(countDescriptors()).toBe(before);
  }),
);

test('a relative name starts at the working directory', () => {
  const pinned = pinFile('package.json');
  unpinFile(pinned);
  expect(pinned.realPath).toBe(fs.realpathSync('package.json'));
});

test('the root is one', () => {
  const pinned = pinFile('/');
  unpinFile(pinned);
  expect(pinned.realPath).toBe('/');
});

test('a file stays the one that it was when its name leads elsewhere', () =>
  withFiles((folder) => {
    const pinned = pinFile(`${folder}/plain`);
    try {
      fs.renameSync(`${folder}/a/b/file`, `${folder}/moved`);
      fs.symlinkSync('/etc/passwd', `${folder}/a/b/file`);
      const file = openFile('name', pinned.openPath);
      fs.closeSync(file.fd);
      expect(file).toMatchObject({ identity: pinned.identity, sizeBytes: 5, path: 'name' });
    } finally {
      unpinFile(pinned);
    }
  }));

test('a FIFO is neither waited for nor opened', () =>
  withFiles((folder) => {
    runCommand('mkfifo', [`${folder}/pipe`]);
    const pinned = pinFile(`${folder}/pipe`);
    try {
      // A writer finds a reader only if somebody has opened it.
      const write = () => fs.openSync(`${folder}/pipe`, fs.constants.O_WRONLY | fs.constants.O_NONBLOCK);
      expect(write).toThrow('ENXIO');
      expect(catchError(() => openFile('name', pinned.openPath)).message).toBe(
        'name is neither a regular file nor a block device',
      );
      expect(write).toThrow('ENXIO');
    } finally {
      unpinFile(pinned);
    }
  }));

test('names that are no UTF-8 are told apart', () =>
  withFiles((folder) => {
    const places = ['\xff', '\xfe'].map((name) => {
      fs.mkdirSync(Buffer.from(`${folder}/${name}`, 'latin1'));
      fs.writeFileSync(Buffer.from(`${folder}/${name}/file`, 'latin1'), 'x');
      fs.rmSync(`${folder}/to`, { force: true });
      fs.symlinkSync(Buffer.from(name, 'latin1'), `${folder}/to`);
      const pinned = pinFile(`${folder}/to/file`);
      unpinFile(pinned);
      return pinned.realPath;
    });
    expect(places).toEqual([`${folder}/\xff/file`, `${folder}/\xfe/file`]);
  }));

test.each(['a', 'plain', 'absolute', 'up', 'far/file', 'a/../a/b/file', 'far/../b/file'])(
  'what is forbidden is not touched on the way of %s',
  (name) =>
    withFiles((folder) => {
      const error = catchError(() => pinFile(`${folder}/${name}`, `${folder}/a`));
      expect(error.code).toBe('REFUSED');
      expect(error.message).toBe(`${folder}/${name} leads into its own mount`);
    }),
);
