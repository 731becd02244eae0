import fs from 'node:fs';
import { expect, test, vi } from 'vitest';
import { passphraseSource, readPassphraseFile } from '../../src/cli/passphrases.ts';
import { LineBuffer } from '../../src/cli/prompt-passphrase.ts';
import { catchError } from '../support/catch-error.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

test.each(['geheim', 'geheim\n', 'geheim\n\n', 'geheim\r\n', ' two\nlines ', '', '\n'])(
  'of the file %j all bytes are the passphrase',
  (content) =>
    withTemporaryFolder((folder) => {
      fs.writeFileSync(`${folder}/key`, content);
      expect(readPassphraseFile(`${folder}/key`).toString()).toBe(content);
    }),
);

test('a file that has no end is refused', () => {
  expect(catchError(() => readPassphraseFile('/dev/zero')).message).toContain('/dev/zero is longer than');
});

test('a file that is not there is named', () => {
  const error = catchError(() => readPassphraseFile('/nowhere/key'));
  expect(error.code).toBe('IO');
  expect(error.message).toContain('/nowhere/key');
});

test('one file serves all encrypted files, and several are taken in their order', () =>
  withTemporaryFolder(async (folder) => {
    const [one, two] = [`${folder}/1`, `${folder}/2`];
    fs.writeFileSync(one, 'one\n');
    fs.writeFileSync(two, 'two\n');
    const read = async (paths: string[], files: string[]) =>
      (await passphraseSource(paths)(files.map((path) => ({ path, uncheckedBytes: undefined })))).map(String);
    expect(await read([one], ['a', 'b', 'c'])).toEqual(['one\n', 'one\n', 'one\n']);
    expect(await read([two, one], ['a', 'b'])).toEqual(['two\n', 'one\n']);
    await expect(read([one, two], ['a', 'b', 'c'])).rejects.toMatchObject({ code: 'USAGE' });
    await expect(read([one, two], ['a'])).rejects.toMatchObject({ code: 'USAGE' });
  }));

test.each([
  ['behind a short passphrase', 'secret\n', true],
  ['in the last byte that counts', '0123456789abcde\n', true],
  ['behind all bytes that count', '0123456789abcdef\n', false],
  ['nowhere', 'secret', false],
  ['inside only', 'two\nlines', false],
])('legacy AES, a newline %s: told in one line for all files, or not at all', (_, content, isTold) =>
  withTemporaryFolder(async (folder) => {
    fs.writeFileSync(`${folder}/key`, content);
    const written = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    try {
      const files = [
        { path: 'a', uncheckedBytes: 16 },
        { path: 'luks', uncheckedBytes: undefined },
        { path: 'b\x1b', uncheckedBytes: 16 },
      ];
      await passphraseSource([`${folder}/key`])(files);
      const lines = written.mock.calls.map(([text]) => String(text));
      expect(lines).toEqual(
        isTold ? [expect.stringMatching(/^qcow2fs: warning: a, b\P{Cc}+: the newline \P{Cc}+\n$/u)] : [],
      );
    } finally {
      written.mockRestore();
    }
  }),
);

test.each([
  ['secret\r', 'done', 'secret'],
  ['secret\n', 'done', 'secret'],
  ['wrong\x15secret\r', 'done', 'secret'],
  ['secreX\x7ft\r', 'done', 'secret'],
  ['\x7f\x7f\xc3\xbc\x08u\r', 'done', 'u'],
  ['sec', 'open', 'sec'],
  ['sec\x03', 'given-up', 'sec'],
  ['\x04', 'given-up', ''],
])('what is typed as %j', (typed, state, text) => {
  const line = new LineBuffer();
  expect(line.take(Buffer.from(typed, 'latin1'))).toBe(state);
  expect(line.bytes.toString()).toBe(text);
});
