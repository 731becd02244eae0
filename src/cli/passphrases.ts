/** Where `qcow2fs mount` and `qcow2fs list --volumes` get passphrases from: files, or a prompt. Never the command line or the environment. */

import fs from 'node:fs';
import { messageOf, Qcow2fsError } from '../errors.ts';
import type { PassphraseSource } from '../open-image/layer-keys.ts';
import { promptPassphrase } from './prompt-passphrase.ts';

/** The limit of cryptsetup for key files. */
const MAX_PASSPHRASE_BYTES = 8 * 1024 * 1024;
const STDIN_FD = 0;

/** One file for all encrypted files, or one for each of them in the order of images and chains; without any, the terminal. */
export function passphraseSource(paths: readonly string[]): PassphraseSource {
  return async (files) => {
    if (paths.length === 0) return promptEach(files);
    if (paths.length !== 1 && paths.length !== files.length) {
      throw new Qcow2fsError(
        'USAGE',
        `--passphrase-file is given ${paths.length} times, but ${files.length} files are encrypted (${files.join(', ')}): ` +
          'give it once for all of them, or once for each',
      );
    }
    const read = paths.map(readPassphraseFile);
    // Copies, as each is overwritten after its use.
    const passphrases = files.map((_, index) => Buffer.from(read[index] ?? read[0] ?? []));
    for (const bytes of read) bytes.fill(0);
    return passphrases;
  };
}

/**
 * The bytes of a file, or of standard input for `-`, without one newline at the end: `echo` and editors leave one. (QEMU
 * takes a secret's file as it is.)
 * @throws Qcow2fsError IO.
 */
export function readPassphraseFile(path: string): Buffer {
  const bytes = Buffer.alloc(MAX_PASSPHRASE_BYTES + 1);
  const length = readInto(bytes, path);
  if (length > MAX_PASSPHRASE_BYTES) {
    bytes.fill(0);
    throw new Qcow2fsError('IO', `the passphrase in ${path} is longer than ${MAX_PASSPHRASE_BYTES} bytes`);
  }
  return bytes.subarray(0, bytes[length - 1] === 0x0a ? length - 1 : length);
}

async function promptEach(files: readonly string[]): Promise<Buffer[]> {
  const passphrases: Buffer[] = [];
  for (const file of files) passphrases.push(await promptPassphrase(file));
  return passphrases;
}

function readInto(target: Buffer, path: string): number {
  let fd: number | undefined;
  try {
    fd = path === '-' ? STDIN_FD : fs.openSync(path, 'r');
    let length = 0;
    while (length < target.length) {
      const count = fs.readSync(fd, target, length, target.length - length, null);
      if (count === 0) break;
      length += count;
    }
    return length;
  } catch (cause) {
    throw new Qcow2fsError('IO', `the passphrase cannot be read from ${path}: ${messageOf(cause)}`, { cause });
  } finally {
    if (fd !== undefined && fd !== STDIN_FD) fs.closeSync(fd);
  }
}
