import fs from 'node:fs';
import { expect, test } from 'vitest';
import {
  FileStorage,
  isSettled,
  isUnchanged,
  type OpenFile,
  openFile,
  statOf,
} from '../../src/storage/file-storage.ts';
import { readExactly } from '../../src/storage/storage.ts';
import { catchError } from '../support/catch-error.ts';
import { runCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

function using<Result>(path: string, use: (file: OpenFile) => Result): Result {
  const file = openFile(path);
  try {
    return use(file);
  } finally {
    fs.closeSync(file.fd);
  }
}

test('reads stop at the end of the file and nowhere else', () =>
  withTemporaryFolder((folder) => {
    fs.writeFileSync(`${folder}/f`, 'abcdef');
    using(`${folder}/f`, (file) => {
      const storage = new FileStorage(file);
      const target = Buffer.alloc(8, '.');
      expect(storage.readUpTo(target, 1, 7, 2)).toBe(4);
      expect(target.toString()).toBe('.cdef...');
      expect(storage.readUpTo(target, 0, 8, 6)).toBe(0);
      const error = catchError(() => readExactly(storage, target, 0, 5, 2, 'a cluster'));
      expect(error.code).toBe('PAST_END');
      expect(error.message).toContain(
        `${folder}/f: a cluster at offset 2 (5 bytes) lies past the end of the file (6 bytes)`,
      );
    });
  }));

test('a position that no file reaches is past the end', () =>
  withTemporaryFolder((folder) => {
    fs.writeFileSync(`${folder}/f`, 'abcdef');
    using(`${folder}/f`, (file) => {
      // More than pread(2) of Node.js takes; entries of a damaged table can say so.
      const error = catchError(() => readExactly(new FileStorage(file), Buffer.alloc(4), 0, 4, 2 ** 55, 'a cluster'));
      expect(error.code).toBe('PAST_END');
    });
  }));

test.each<[string, (path: string) => void]>([
  ['bytes written', (path) => fs.writeFileSync(path, 'ABCDEF', { flag: 'r+' })],
  ['bytes appended', (path) => fs.appendFileSync(path, 'x')],
  ['bytes cut off', (path) => fs.truncateSync(path, 3)],
  [
    'a write whose mtime was set back',
    (path) => {
      const { atime, mtime } = fs.statSync(path);
      fs.writeFileSync(path, 'ABCDEF', { flag: 'r+' });
      fs.utimesSync(path, atime, mtime);
    },
  ],
])('%s is a change', async (_, change) =>
  withTemporaryFolder(async (folder) => {
    const path = `${folder}/f`;
    fs.writeFileSync(path, 'abcdef');
    await new Promise((resolve) => setTimeout(resolve, 60));
    using(path, (file) => {
      expect(isSettled(file)).toBe(true);
      expect(isUnchanged(file)).toBe(true);
      change(path);
      expect(isUnchanged(file)).toBe(false);
    });
  }),
);

test('reading is no change', async () =>
  withTemporaryFolder((folder) => {
    fs.writeFileSync(`${folder}/f`, 'abcdef');
    using(`${folder}/f`, (file) => {
      fs.readFileSync(`${folder}/f`);
      expect(isUnchanged(file)).toBe(true);
    });
  }));

test('a file that was just written to is not settled', () =>
  withTemporaryFolder((folder) => {
    fs.writeFileSync(`${folder}/f`, 'abcdef');
    using(`${folder}/f`, (file) => expect(isSettled(file)).toBe(false));
  }));

test('the size of a block device is known', () =>
  withTemporaryFolder((folder) => {
    fs.writeFileSync(`${folder}/f`, Buffer.alloc(1 << 20, 'x'));
    const device = runCommand('losetup', ['--find', '--show', '--read-only', `${folder}/f`]).trim();
    try {
      using(device, (file) => {
        expect(file).toMatchObject({ sizeBytes: 1 << 20, isBlockDevice: true });
        expect(new FileStorage(file).readUpTo(Buffer.alloc(16), 0, 16, (1 << 20) - 8)).toBe(8);
      });
    } finally {
      runCommand('losetup', ['--detach', device]);
    }
  }));

test('a file that is found by another path is named by its own', () =>
  withTemporaryFolder((folder) => {
    // A name below a file.
    fs.writeFileSync(`${folder}/f`, '');
    const error = catchError(() => openFile('a.qcow2', `${folder}/f/x`));
    expect(error).toMatchObject({ code: 'IO', message: 'a.qcow2: cannot be opened: ENOTDIR: not a directory' });
    expect((error.cause as Error).message).toContain(`${folder}/f/x`);
  }));

test('a file that cannot be looked at any more is named', () =>
  withTemporaryFolder((folder) => {
    fs.writeFileSync(`${folder}/f`, '');
    const file = openFile(`${folder}/f`);
    fs.closeSync(file.fd);
    // No file has this descriptor.
    const lost = { ...file, fd: 2 ** 30 };
    const message = `${folder}/f cannot be looked at any more: EBADF: bad file descriptor`;
    expect(catchError(() => isUnchanged(lost))).toMatchObject({ code: 'IO', message });
    expect(catchError(() => statOf(lost))).toMatchObject({ code: 'IO', message });
  }));
