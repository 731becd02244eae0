/**
 * Writes at random through all windows of a scratch view, does the same to a plain copy of the disk, and compares what it reads.
 * Its argument is JSON:
 *
 * - `mountpoint`, `copy`, `windows`: see `windows-image.ts`
 * - `seed`, `count`: of the operations
 * - `stripeBytes`, `writerCount`, `writer`: only stripes of the disk whose number is `writer` modulo `writerCount` are used
 * - `canPunch`: whether there are holes to be made
 *
 * Fails with what it did last.
 */

import { spawnSync } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';

const { mountpoint, copy, windows, seed, count, stripeBytes, writerCount, writer, canPunch } = JSON.parse(
  process.argv[2],
);
const MAX_BYTES = 300_000;
const ZEROS = Buffer.alloc(MAX_BYTES);

const copyFd = fs.openSync(copy, 'r+');
const files = windows.map((window) => {
  const file = path.join(mountpoint, window.file);
  const flags = fs.constants.O_RDWR;
  return { ...window, path: file, fds: [fs.openSync(file, flags), fs.openSync(file, flags | fs.constants.O_DIRECT)] };
});

let state = seed >>> 0;
for (let index = 0; index < count; index++) operate(index);
for (const { fds } of files) for (const fd of fds) fs.closeSync(fd);

function operate(index) {
  const window = files[below(files.length)];
  const { offset, length } = choosePlace(window);
  const fd = window.fds[below(2)];
  const kind = chooseKind();
  try {
    if (kind === 'read') compare(window, fd, offset, length);
    else if (kind === 'sync') fs.fsyncSync(fd);
    else if (kind === 'write') write(window, fd, offset, length);
    else clear(window, kind, offset, length);
  } catch (error) {
    throw new Error(`operation ${index}: ${kind} of ${window.file} at ${offset}, ${length} bytes`, { cause: error });
  }
}

function chooseKind() {
  const number = below(100);
  if (number < 45) return 'read';
  if (number < 90) return 'write';
  if (number < 94 || !canPunch) return 'sync';
  return number < 97 ? '--punch-hole' : '--zero-range';
}

/** A range that is in one stripe of this writer on the disk, and in one segment. */
function choosePlace(window) {
  for (;;) {
    const segment = window.segments[below(window.segments.length)];
    const at = below(segment.length);
    const disk = segment.diskOffset + at;
    if (Math.floor(disk / stripeBytes) % writerCount !== writer) continue;
    const stripeEnd = (Math.floor(disk / stripeBytes) + 1) * stripeBytes;
    const limit = Math.min(MAX_BYTES, segment.length - at, stripeEnd - disk);
    // Small ones as likely as large ones.
    const length = Math.min(limit, Math.ceil(limit ** fraction()));
    // Half of them begin where a block does, as far as there is one.
    const aligned = below(2) === 0 ? Math.min(length - 1, (4096 - (disk % 4096)) % 4096) : 0;
    return { offset: segment.offset + at + aligned, length: length - aligned };
  }
}

function compare(window, fd, offset, length) {
  const [read, expected] = [Buffer.alloc(length), Buffer.alloc(length)];
  const readCount = fs.readSync(fd, read, 0, length, offset);
  fs.readSync(copyFd, expected, 0, length, toDisk(window, offset));
  if (readCount !== length) throw new Error(`${readCount} bytes were read`);
  const difference = read.findIndex((byte, index) => byte !== expected[index]);
  if (difference >= 0)
    throw new Error(`byte ${offset + difference} is ${read[difference]}, not ${expected[difference]}`);
}

function write(window, fd, offset, length) {
  const bytes = randomFillSync(Buffer.alloc(length));
  const written = fs.writeSync(fd, bytes, 0, length, offset);
  if (written !== length) throw new Error(`${written} bytes were written`);
  fs.writeSync(copyFd, bytes, 0, length, toDisk(window, offset));
}

function clear(window, kind, offset, length) {
  const args = [kind, '--keep-size', '--offset', offset, '--length', length, window.path];
  const { status, stderr } = spawnSync('fallocate', args.map(String), { encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
  fs.writeSync(copyFd, ZEROS, 0, length, toDisk(window, offset));
}

function toDisk({ segments }, offset) {
  const segment = segments.findLast((each) => each.offset <= offset);
  return segment.diskOffset + offset - segment.offset;
}

/** mulberry32, in [0, 1). */
function fraction() {
  state = (state + 0x6d2b79f5) >>> 0;
  let mixed = state;
  mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
  mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
  return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
}

function below(limit) {
  return Math.floor(fraction() * limit);
}
