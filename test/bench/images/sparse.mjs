/** A large disk with little in it, and a file system. */

import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { Random } from '../../fuzz/random.mjs';
import { checkInterrupted, run } from '../run.mjs';
import { hashPieces } from '../verify.mjs';
import { writeRandomPieces } from './data.mjs';
import { convert } from './qemu.mjs';

const MIB = 2 ** 20;
const PIECE_BYTES = MIB;
/** Where pieces begin, as file systems have it. */
const ALIGNMENT_BYTES = 4096;
/** A file system of this much more than its files has room for its own tables. */
const SPARE_SHARE = 1.5;

/** The data is in pieces of 1 MiB, spread over the disk at random. */
export async function makeSparse(folder, { sparseBytes, sparseDataBytes }) {
  const [raw, image] = [path.join(folder, 'disk.raw'), path.join(folder, 'disk.qcow2')];
  const random = new Random(1, 0);
  const count = sparseDataBytes / PIECE_BYTES;
  const slotBytes = sparseBytes / count;
  const pieces = Array.from({ length: count }, (_, index) => ({
    offset: index * slotBytes + random.below((slotBytes - PIECE_BYTES) / ALIGNMENT_BYTES) * ALIGNMENT_BYTES,
    length: PIECE_BYTES,
  }));
  writeRandomPieces(raw, sparseBytes, pieces);
  await convert(raw, image);
  // All of it would take minutes: the pieces, with what is before and behind each.
  const withSurroundings = pieces.map(({ offset, length }) => ({
    offset: Math.max(0, offset - ALIGNMENT_BYTES),
    length: length + 2 * ALIGNMENT_BYTES,
  }));
  return { image, files: [image], views: [{ raw, pieces: await hashPieces(raw, withSurroundings) }] };
}

/** ext4 with files of random sizes and contents. */
export async function makeFileSystem(folder, { fileCount, meanFileBytes }) {
  const [tree, raw, image] = ['tree', 'disk.raw', 'disk.qcow2'].map((name) => path.join(folder, name));
  const totalBytes = writeTree(tree, fileCount, meanFileBytes);
  fs.writeFileSync(raw, '');
  fs.truncateSync(raw, Math.ceil((totalBytes * SPARE_SHARE) / MIB + 16) * MIB);
  await run('mkfs.ext4', ['-q', '-F', '-d', tree, '-N', String(fileCount * 2), raw]);
  fs.rmSync(tree, { recursive: true });
  await convert(raw, image);
  return { image, files: [image], views: [{ raw }] };
}

/** A hundred files to a folder; returns what they take in blocks. */
function writeTree(tree, fileCount, meanFileBytes) {
  const random = new Random(1, 0);
  let totalBytes = 0;
  for (let index = 0; index < fileCount; index++) {
    checkInterrupted();
    const folder = path.join(tree, String(Math.floor(index / 100)));
    if (index % 100 === 0) fs.mkdirSync(folder, { recursive: true });
    const bytes = 1 + random.below(meanFileBytes * 2);
    fs.writeFileSync(path.join(folder, String(index)), crypto.randomBytes(bytes));
    totalBytes += Math.ceil(bytes / 4096) * 4096;
  }
  return totalBytes;
}
