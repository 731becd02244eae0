/** Where `qcow2fs mount` and `qcow2fs list --volumes` get passphrases from: files, or a prompt. Never the command line or the environment. */

import fs from 'node:fs';
import { warn } from '../common/logging.ts';
import { messageOf, Qcow2fsError } from '../errors.ts';
import type { LockedFile, PassphraseSource } from '../open-image/layer-keys.ts';
import { toPrintable } from './format.ts';
import { promptPassphrase } from './prompt-passphrase.ts';

/** The limit of cryptsetup for key files. */
const MAX_PASSPHRASE_BYTES = 8 * 1024 * 1024;
const STDIN_FD = 0;
const NEWLINE = 0x0a;

/** One file for all encrypted files, or one for each of them in the order of images and chains; without any, the terminal. */
export function passphraseSource(paths: readonly string[]): PassphraseSource {
  return async (files) => {
    if (paths.length === 0) return await collect(files, ({ path }) => promptPassphrase(path));
    if (paths.length !== 1 && paths.length !== files.length) {
      throw new Qcow2fsError(
        'USAGE',
        `--passphrase-file is given ${paths.length} times, but ${files.length} files are encrypted (${namesOf(files)}): ` +
          'give it once for all of them, or once for each',
      );
    }
    const read = await collect(paths, readPassphraseFile);
    // Copies, as each is overwritten after its use.
    const passphrases = files.map((_, index) => Buffer.from(read[index] ?? read[0] ?? []));
    for (const bytes of read) bytes.fill(0);
    warnOfNewlines(files, passphrases);
    return passphrases;
  };
}

/**
 * The bytes of a file, or of standard input for `-`, as they are. A newline at the end, which `echo` and editors leave, may
 * be part of the passphrase: QEMU and cryptsetup take it for that.
 * @throws Qcow2fsError IO.
 */
export function readPassphraseFile(path: string): Buffer {
  const bytes = Buffer.alloc(MAX_PASSPHRASE_BYTES + 1);
  try {
    const length = readInto(bytes, path);
    if (length > MAX_PASSPHRASE_BYTES) {
      throw new Qcow2fsError('IO', `the passphrase in ${path} is longer than ${MAX_PASSPHRASE_BYTES} bytes`);
    }
    return bytes.subarray(0, length);
  } catch (error) {
    bytes.fill(0);
    throw error;
  }
}

/** One line: where nothing tells a wrong passphrase, a newline that was not meant gives noise. */
function warnOfNewlines(files: readonly LockedFile[], passphrases: readonly Buffer[]): void {
  const doubtful = files.filter(({ uncheckedBytes = 0 }, index) => {
    const passphrase = passphrases[index] ?? Buffer.alloc(0);
    return passphrase.at(-1) === NEWLINE && passphrase.length <= uncheckedBytes;
  });
  if (doubtful.length === 0) return;
  warn(
    `warning: ${toPrintable(namesOf(doubtful))}: the newline at the end of the passphrase counts, as in QEMU, and nothing ` +
      'can tell a wrong passphrase of legacy AES; if the disk is noise, write the file with printf %s, not echo',
  );
}

/** What `ask` gives for each; if it throws, what it gave before is overwritten. */
async function collect<Place>(
  places: readonly Place[],
  ask: (place: Place) => Buffer | Promise<Buffer>,
): Promise<Buffer[]> {
  const passphrases: Buffer[] = [];
  try {
    for (const place of places) passphrases.push(await ask(place));
    return passphrases;
  } catch (error) {
    for (const passphrase of passphrases) passphrase.fill(0);
    throw error;
  }
}

function namesOf(files: readonly LockedFile[]): string {
  return files.map(({ path }) => path).join(', ');
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
