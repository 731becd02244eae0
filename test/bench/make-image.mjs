/** The image that is measured: random data in clusters of 64 KiB, with one snapshot. */

import fs from 'node:fs';
import path from 'node:path';
import { run } from './run.mjs';

const MIB = 1024 * 1024;
const CLUSTER_BYTES = 64 * 1024;
/** After the snapshot, this many pieces are written again, so that not all of the disk is in one piece in the file. */
export const REWRITTEN_PIECES = 128;
export const REWRITTEN_BYTES = 256 * 1024;

export async function makeImage(folder, sizeBytes) {
  const raw = path.join(folder, 'disk.raw');
  const image = path.join(folder, 'disk.qcow2');
  await run('dd', ['if=/dev/urandom', `of=${raw}`, 'bs=1M', `count=${sizeBytes / MIB}`, 'status=none']);
  await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', '-o', `cluster_size=${CLUSTER_BYTES}`, raw, image]);
  fs.rmSync(raw);
  await run('qemu-img', ['snapshot', '-c', 'before', image]);
  const step = Math.floor(sizeBytes / REWRITTEN_PIECES / CLUSTER_BYTES) * CLUSTER_BYTES;
  const writes = Array.from({ length: REWRITTEN_PIECES }, (_, index) => [
    '-c',
    `write -q -P ${1 + index} ${index * step} ${REWRITTEN_BYTES}`,
  ]);
  await run('qemu-io', ['-f', 'qcow2', ...writes.flat(), image]);
  return image;
}
