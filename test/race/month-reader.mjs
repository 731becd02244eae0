/**
 * Keeps files of a mount open, night after night. A request is a line on stdin: `hold FILE`, or `check`, which reads every
 * file that is held past the page cache. The answer is a line of JSON on stdout: for each file its sha256, or the errno.
 */

import { createHash } from 'node:crypto';
import fs from 'node:fs';
import readline from 'node:readline';

const PIECE_BYTES = 1024 * 1024;
const held = new Map();

for await (const line of readline.createInterface({ input: process.stdin })) {
  const file = line.match(/^hold (.*)$/)?.[1];
  if (file !== undefined) held.set(file, fs.openSync(file, fs.constants.O_RDONLY | fs.constants.O_DIRECT));
  const answer = Object.fromEntries([...held].map(([name, fd]) => [name, contentOf(fd)]));
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}

function contentOf(fd) {
  const hash = createHash('sha256');
  const piece = Buffer.alloc(PIECE_BYTES);
  try {
    for (let at = 0; ; ) {
      const count = fs.readSync(fd, piece, 0, PIECE_BYTES, at);
      if (count === 0) return hash.digest('hex');
      hash.update(piece.subarray(0, count));
      at += count;
    }
  } catch (error) {
    return -error.errno;
  }
}
