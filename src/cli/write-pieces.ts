/** Writes long texts. */

import type { Writable } from 'node:stream';

/** System calls for less than this take longer than what they save. */
const BATCH_CHARACTERS = 64 * 1024;

/**
 * Writes the pieces one behind the other, so that few of them are in memory at a time. Stops at the first error, which is
 * left to the listeners of the stream: who reads no further needs no more.
 */
export async function writePieces(stream: Writable, pieces: Iterable<string>): Promise<void> {
  let batch = '';
  for (const piece of pieces) {
    batch += piece;
    if (batch.length < BATCH_CHARACTERS) continue;
    if (!(await write(stream, batch))) return;
    batch = '';
  }
  await write(stream, batch);
}

/** False if it failed. */
function write(stream: Writable, text: string): Promise<boolean> {
  return new Promise((resolve) => {
    stream.write(text, (error) => resolve(error === null || error === undefined));
  });
}
