/** One file with the passphrase for QEMU and for this reader: both show the same disk. */

import fs from 'node:fs';
import { afterEach, beforeEach, describe, expect, type MockInstance, test, vi } from 'vitest';
import { passphraseSource } from '../../src/cli/passphrases.ts';
import { NO_CHAIN_OPTIONS } from '../../src/open-image/layers.ts';
import { closeImage } from '../../src/open-image/open-image.ts';
import { openUnlockedImage } from '../../src/open-image/open-unlocked.ts';
import { StateDisks } from '../../src/open-image/state-disks.ts';
import { runCommand, tryCommand } from '../support/run-command.ts';
import { runMeasuring } from '../support/run-measuring.mjs';
import { withMemoryFolder } from '../support/temporary-folder.ts';

const SIZE_BYTES = 1 << 20;
const LUKS = 'encrypt.format=luks,encrypt.iter-time=10,encrypt.cipher-alg=aes-128,encrypt.hash-alg=sha1';
const AES = 'encrypt.format=aes';

beforeEach(() => {
  written = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
});

afterEach(() => written.mockRestore());

/** What the reader says. */
let written: MockInstance<typeof process.stderr.write>;

describe.each([
  ['LUKS', LUKS],
  ['legacy AES', AES],
])('%s, with a passphrase file that QEMU made the image with', (_, options) => {
  test.each(['secret', 'secret\n', 'secret\n\n', '\n'])('%j', (content) =>
    withMemoryFolder(async (folder) => {
      const image = makeImage(folder, options, content);
      expect((await readHere(image, `${folder}/passphrase`)).equals(readByQemu(image, `${folder}/passphrase`))).toBe(
        true,
      );
    }),
  );
});

describe('a file with a newline more than the passphrase', () => {
  test('opens LUKS, although QEMU does not take it; one with a newline less does not', () =>
    withMemoryFolder(async (folder) => {
      const image = makeImage(folder, LUKS, 'secret');
      const disk = readByQemu(image, `${folder}/passphrase`);
      fs.writeFileSync(`${folder}/echoed`, 'secret\n');
      expect(tryConvert(image, `${folder}/echoed`).stderr).toContain('Invalid password');
      expect((await readHere(image, `${folder}/echoed`)).equals(disk)).toBe(true);
      fs.writeFileSync(`${folder}/twice`, 'secret\n\n');
      await expect(readHere(image, `${folder}/twice`)).rejects.toMatchObject({ code: 'LOCKED' });
      const other = makeImage(folder, LUKS, 'other\n');
      fs.writeFileSync(`${folder}/less`, 'other');
      await expect(readHere(other, `${folder}/less`)).rejects.toMatchObject({ code: 'LOCKED' });
    }));

  test('is another key of legacy AES, as for QEMU, and that is told', () =>
    withMemoryFolder(async (folder) => {
      const image = makeImage(folder, AES, 'secret');
      const disk = readByQemu(image, `${folder}/passphrase`);
      fs.writeFileSync(`${folder}/echoed`, 'secret\n');
      const shown = await readHere(image, `${folder}/echoed`);
      expect(shown.equals(readByQemu(image, `${folder}/echoed`))).toBe(true);
      expect(shown.equals(disk)).toBe(false);
      const [line, ...others] = written.mock.calls.map(([text]) => String(text));
      expect(line).toMatch(/^qcow2fs: warning: \S*image\.qcow2: the newline [^\n]*printf %s[^\n]*\n$/);
      expect(others).toEqual([]);
    }));
});

/** Its passphrase is `content`, which is then in the file `passphrase`. */
function makeImage(folder: string, options: string, content: string): string {
  const passphraseFile = `${folder}/passphrase`;
  const image = `${folder}/image.qcow2`;
  fs.writeFileSync(passphraseFile, content);
  const secret = ['--object', `secret,id=s,file=${passphraseFile}`];
  const create = ['-f', 'qcow2', '-o', `encrypt.key-secret=s,${options}`, image, String(SIZE_BYTES)];
  runMeasuring('qemu-img', ['create', '-q', ...secret, ...create]);
  runCommand('qemu-io', ['-c', 'write -q -P 9 64k 300k', ...secret, '--image-opts', imageOptions(image)]);
  return image;
}

function readByQemu(image: string, passphraseFile: string): Buffer {
  const { status, stderr } = tryConvert(image, passphraseFile);
  if (status !== 0) throw new Error(stderr);
  return fs.readFileSync(`${image}.raw`);
}

function tryConvert(image: string, passphraseFile: string) {
  const secret = ['--object', `secret,id=s,file=${passphraseFile}`];
  return tryCommand('qemu-img', [
    'convert',
    ...secret,
    '--image-opts',
    imageOptions(image),
    '-O',
    'raw',
    `${image}.raw`,
  ]);
}

function imageOptions(image: string): string {
  return `driver=qcow2,encrypt.key-secret=s,file.filename=${image}`;
}

async function readHere(imagePath: string, passphraseFile: string): Promise<Buffer> {
  const passphrasesOf = passphraseSource([passphraseFile]);
  const image = await openUnlockedImage(imagePath, { chain: NO_CHAIN_OPTIONS, passphrasesOf });
  try {
    const disk = new StateDisks(image).disk(0);
    const bytes = Buffer.alloc(disk.sizeBytes);
    disk.readAt(bytes, 0, 0, bytes.length);
    return bytes;
  } finally {
    closeImage(image);
  }
}
