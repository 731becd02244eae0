/** What disks are filled with: nothing that a reader could take for a hole, or that compresses by accident. */

import crypto from 'node:crypto';
import fs from 'node:fs';
import { Random } from '../../fuzz/random.mjs';
import { checkInterrupted } from '../run.mjs';

const PIECE_BYTES = 1024 * 1024;

/** Writes random bytes to each of the `pieces` ({offset, length}) of a file of `sizeBytes`; the rest are holes. */
export function writeRandomPieces(file, sizeBytes, pieces) {
  writeFile(file, sizeBytes, (fd) => {
    const buffer = Buffer.alloc(PIECE_BYTES);
    for (const { offset, length } of pieces) {
      for (let done = 0; done < length; done += PIECE_BYTES) {
        const part = buffer.subarray(0, Math.min(PIECE_BYTES, length - done));
        fs.writeSync(fd, crypto.randomFillSync(part), 0, part.length, offset + done);
      }
    }
  });
}

export function writeRandomFile(file, sizeBytes) {
  writeRandomPieces(file, sizeBytes, [{ offset: 0, length: sizeBytes }]);
}

/** Text, records and some bytes that do not compress, as disks have them: zlib makes a little more than half of it. */
export function writeCompressibleFile(file, sizeBytes) {
  const random = new Random(1, 0);
  const words = Array.from({ length: 1024 }, () => wordOf(random));
  writeFile(file, sizeBytes, (fd) => {
    for (let offset = 0; offset < sizeBytes; offset += PIECE_BYTES) {
      checkInterrupted();
      const piece = Buffer.alloc(Math.min(PIECE_BYTES, sizeBytes - offset));
      for (let at = 0; at < piece.length; at += BLOCK_BYTES) {
        fillBlock(piece.subarray(at, at + BLOCK_BYTES), random, words);
      }
      fs.writeSync(fd, piece, 0, piece.length, offset);
    }
  });
}

const BLOCK_BYTES = 4096;

function fillBlock(block, random, words) {
  const kind = random.below(10);
  if (kind === 0) crypto.randomFillSync(block);
  else if (kind < 4) fillWithRecords(block, random);
  else fillWithText(block, random, words);
}

function fillWithText(block, random, words) {
  let text = '';
  // Words at the beginning of the list are frequent, and those at its end rare.
  while (text.length < block.length)
    text += `${words[random.below(1 + random.below(1 + random.below(words.length)))]} `;
  block.write(text, 'latin1');
}

/** Number, date, amount and a reference, as a table of a database has them. */
function fillWithRecords(block, random) {
  let number = random.u32();
  for (let at = 0; at + 16 <= block.length; at += 16) {
    block.writeUInt32LE(number++ >>> 0, at);
    block.writeUInt32LE(1_700_000_000 + random.below(1 << 24), at + 4);
    block.writeUInt32LE(random.below(10_000), at + 8);
    block.writeUInt32LE(number >>> 4, at + 12);
  }
}

function wordOf(random) {
  const length = 2 + random.below(9);
  return Array.from({ length }, () => String.fromCharCode(97 + random.below(26))).join('');
}

function writeFile(file, sizeBytes, write) {
  const fd = fs.openSync(file, 'wx');
  try {
    fs.ftruncateSync(fd, sizeBytes);
    write(fd);
  } finally {
    fs.closeSync(fd);
  }
}
