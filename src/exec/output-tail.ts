/** The end of what a command prints. */

import type { Readable } from 'node:stream';

const KEPT_BYTES = 64 * 1024;

export class OutputTail {
  #pieces: Buffer[] = [];
  #byteCount = 0;

  /** Reads the stream from now on. */
  follow(stream: Readable): void {
    stream.on('data', (piece: Buffer) => this.add(piece));
  }

  add(piece: Buffer): void {
    this.#pieces.push(piece);
    this.#byteCount += piece.length;
    if (this.#byteCount <= 2 * KEPT_BYTES) return;
    // A copy, so that it does not keep what it was a part of.
    const kept = Buffer.from(Buffer.concat(this.#pieces).subarray(-KEPT_BYTES));
    this.#pieces = [kept];
    this.#byteCount = kept.length;
  }

  /** The last line that is not blank, without blanks at its ends; empty if there is none. At most 64 KiB of it. */
  lastLine(): string {
    const text = Buffer.concat(this.#pieces).subarray(-KEPT_BYTES).toString('utf8');
    return (
      text
        .split(/[\r\n]+/)
        .findLast((line) => line.trim() !== '')
        ?.trim() ?? ''
    );
  }
}
