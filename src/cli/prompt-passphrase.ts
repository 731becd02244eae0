/** Asks for a passphrase on the terminal, without showing it. */

import fs from 'node:fs';
import type { Readable } from 'node:stream';
import tty from 'node:tty';
import { Qcow2fsError } from '../errors.ts';
import { toPrintable } from './format.ts';

const MAX_LINE_BYTES = 4096;

/** Control characters, as `stty -a` calls them. */
const INTERRUPT = 0x03;
const END_OF_FILE = 0x04;
const BACKSPACE = 0x08;
const NEWLINE = 0x0a;
const RETURN = 0x0d;
const KILL_LINE = 0x15;
const DELETE = 0x7f;

/**
 * Asks on the terminal that controls this process, whatever its standard input is.
 * @throws Qcow2fsError LOCKED if there is no terminal, or the user gives up with Ctrl-C or Ctrl-D.
 */
export async function promptPassphrase(file: string): Promise<Buffer> {
  const fd = openTerminal(file);
  const terminal = new tty.ReadStream(fd);
  try {
    // Raw, so that nothing is echoed. Node.js gives the terminal its mode back at the end of the process, too.
    terminal.setRawMode(true);
    fs.writeSync(fd, `passphrase of ${toPrintable(file)}: `);
    return await readLine(terminal, file);
  } catch (error) {
    throw error instanceof Qcow2fsError ? error : noTerminal(file, error);
  } finally {
    terminal.setRawMode(false);
    endLine(fd);
    terminal.destroy();
  }
}

function openTerminal(file: string): number {
  try {
    return fs.openSync('/dev/tty', 'r+');
  } catch (cause) {
    throw noTerminal(file, cause);
  }
}

/** If the terminal is gone, nobody sees where the line ends. */
function endLine(fd: number): void {
  try {
    fs.writeSync(fd, '\n');
  } catch {}
}

function noTerminal(file: string, cause: unknown): Qcow2fsError {
  return new Qcow2fsError(
    'LOCKED',
    `${file} is encrypted, and there is no terminal to ask for its passphrase: use --passphrase-file FILE`,
    { data: { file }, cause },
  );
}

/**
 * Not a copy: whoever gets it overwrites it.
 * @throws Qcow2fsError LOCKED if it is given up; what was typed is overwritten then.
 */
export async function readLine(terminal: Readable, file: string): Promise<Buffer> {
  const line = new LineBuffer();
  try {
    return await untilDone(terminal, line, file);
  } catch (error) {
    line.forget();
    throw error;
  }
}

function untilDone(terminal: Readable, line: LineBuffer, file: string): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const giveUp = () => reject(new Qcow2fsError('LOCKED', `no passphrase for ${file} was given`, { data: { file } }));
    terminal.on('error', giveUp);
    terminal.on('close', giveUp);
    const take = (bytes: Buffer) => {
      const state = line.take(bytes);
      bytes.fill(0);
      if (state === 'open') return;
      // What is typed behind the line is not part of it.
      terminal.off('data', take);
      if (state === 'done') resolve(line.bytes);
      else giveUp();
    };
    terminal.on('data', take);
  });
}

/** A line as it is typed, with the keys that correct it. */
export class LineBuffer {
  readonly #buffer = Buffer.alloc(MAX_LINE_BYTES);
  #length = 0;

  /** What is in the line; not a copy. */
  get bytes(): Buffer {
    return this.#buffer.subarray(0, this.#length);
  }

  take(typed: Buffer): 'open' | 'done' | 'given-up' {
    for (const byte of typed) {
      if (byte === RETURN || byte === NEWLINE) return 'done';
      if (byte === INTERRUPT || byte === END_OF_FILE) return 'given-up';
      if (byte === KILL_LINE) this.forget();
      else if (byte === DELETE || byte === BACKSPACE) this.#cutTo(withoutLastCharacter(this.#buffer, this.#length));
      else if (this.#length < MAX_LINE_BYTES) this.#buffer[this.#length++] = byte;
    }
    return 'open';
  }

  /** Overwrites all that is in it. */
  forget(): void {
    this.#cutTo(0);
  }

  /** What is taken back may be most of the passphrase. */
  #cutTo(length: number): void {
    this.#buffer.fill(0, length, this.#length);
    this.#length = length;
  }
}

/** In UTF-8, the bytes of a character behind its first one start with the bits 10. */
function withoutLastCharacter(line: Buffer, length: number): number {
  let end = Math.max(0, length - 1);
  while (end > 0 && ((line[end] ?? 0) & 0xc0) === 0x80) end -= 1;
  return end;
}
