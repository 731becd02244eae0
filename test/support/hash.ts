/** sha256 of files, read piece by piece. */

import { createHash } from 'node:crypto';
import fs from 'node:fs';

const PIECE_BYTES = 1024 * 1024;

export function sha256OfFile(path: string): string {
  const hash = createHash('sha256');
  const piece = Buffer.alloc(PIECE_BYTES);
  const fd = fs.openSync(path, 'r');
  try {
    for (;;) {
      const count = fs.readSync(fd, piece, 0, PIECE_BYTES, null);
      if (count === 0) return hash.digest('hex');
      hash.update(piece.subarray(0, count));
    }
  } finally {
    fs.closeSync(fd);
  }
}
