/** What is left of a passphrase that nobody will use: zeros. */

import fs from 'node:fs';
import { PassThrough } from 'node:stream';
import { afterEach, expect, test, vi } from 'vitest';
import { passphraseSource, readPassphraseFile } from '../../src/cli/passphrases.ts';
import { LineBuffer, readLine } from '../../src/cli/prompt-passphrase.ts';
import { catchError } from '../support/catch-error.ts';
import { countDescriptors } from '../support/descriptors.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

const FILES = ['a', 'b'].map((path) => ({ path, uncheckedBytes: undefined }));

afterEach(() => {
  vi.restoreAllMocks();
});

/** All that `Buffer.alloc` gives from now on. */
function watchBuffers(): Buffer[] {
  const made: Buffer[] = [];
  const { alloc } = Buffer;
  vi.spyOn(Buffer, 'alloc').mockImplementation((...args) => {
    const buffer = alloc(...args);
    made.push(buffer);
    return buffer;
  });
  return made;
}

function inUse(buffers: readonly Buffer[]): number {
  return buffers.filter((buffer) => buffer.some((byte) => byte !== 0)).length;
}

test('of files that are read one after the other, those before one that is missing are forgotten', () =>
  withTemporaryFolder(async (folder) => {
    fs.writeFileSync(`${folder}/key`, 'secret');
    const made = watchBuffers();
    readPassphraseFile(`${folder}/key`);
    expect(inUse(made.splice(0))).toBe(1);
    const before = countDescriptors();
    await expect(passphraseSource([`${folder}/key`, `${folder}/none`])(FILES)).rejects.toMatchObject({ code: 'IO' });
    expect(made).toHaveLength(2);
    expect(inUse(made)).toBe(0);
    expect(countDescriptors()).toBe(before);
  }));

test('what was read of a file before an error is forgotten', () =>
  withTemporaryFolder((folder) => {
    fs.writeFileSync(`${folder}/key`, 'secret');
    const made = watchBuffers();
    const { readSync } = fs;
    const read = vi.spyOn(fs, 'readSync').mockImplementation((...args: unknown[]) => {
      if (read.mock.calls.length > 1) throw Object.assign(new Error('EIO: i/o error, read'), { code: 'EIO' });
      return Reflect.apply(readSync, fs, args);
    });
    expect(catchError(() => readPassphraseFile(`${folder}/key`)).code).toBe('IO');
    expect(read).toHaveBeenCalledTimes(2);
    expect(made).toHaveLength(1);
    expect(inUse(made)).toBe(0);
  }));

test.each(['secret\x7f\x7f\x7f\x7f\x7f\x7f', 'secret\x15'])('what is corrected as %j is overwritten', (typed) => {
  const made = watchBuffers();
  const line = new LineBuffer();
  line.take(Buffer.from('secret'));
  expect(inUse(made)).toBe(1);
  line.take(Buffer.from(typed.slice('secret'.length)));
  expect(inUse(made)).toBe(0);
});

test.each([
  ['Ctrl-C', (terminal: PassThrough) => terminal.write('\x03')],
  ['the end of the terminal', (terminal: PassThrough) => terminal.destroy()],
])('a line that is given up by %s is forgotten', async (_, giveUp) => {
  const made = watchBuffers();
  const terminal = new PassThrough();
  const reading = readLine(terminal, 'disk.qcow2');
  terminal.write('secr');
  await vi.waitFor(() => expect(inUse(made)).toBe(1));
  giveUp(terminal);
  await expect(reading).rejects.toMatchObject({ code: 'LOCKED' });
  expect(inUse(made)).toBe(0);
});

test('a line that was read is kept when the terminal is closed', async () => {
  const terminal = new PassThrough();
  const reading = readLine(terminal, 'disk.qcow2');
  terminal.write('secret\r');
  const line = await reading;
  await new Promise((resolve) => terminal.destroy().on('close', resolve));
  expect(line.toString()).toBe('secret');
});

test.each(['more', '\x15', '\x03'])('what comes as %j behind the line is no part of it', async (rest) => {
  const terminal = new PassThrough();
  terminal.write('secret\r');
  terminal.write(rest);
  const line = await readLine(terminal, 'disk.qcow2');
  expect(line.toString()).toBe('secret');
});
