/** QEMU makes the images. */

import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { Random } from '../../fuzz/random.mjs';
import { startMachine } from '../../race/machine.mjs';
import { checkInterrupted, inScope, run } from '../run.mjs';

/** The usual size of clusters, which is also how much a guest writes at once here. */
export const CLUSTER_BYTES = 64 * 1024;

/** Makes a qcow2 image of a raw file; `options` are those of `qemu-img convert -o`. */
export async function convert(raw, image, options = [], more = []) {
  const named = options.length === 0 ? [] : ['-o', options.join(',')];
  await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', ...named, ...more, raw, image]);
}

export async function createImage(image, args) {
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', ...args]);
  return image;
}

/** The truth about a state: what QEMU reads. A snapshot is given by its name. */
export async function writeRawFile(image, raw, snapshot) {
  const state = snapshot === undefined ? [] : ['-l', `snapshot.name=${snapshot}`];
  await run('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', ...state, image, raw]);
  return raw;
}

/** Lets a running machine write to an image; `work` gets it. */
export async function withMachine(image, work) {
  await inScope(async () => {
    const folder = fs.mkdtempSync(path.join(path.dirname(image), 'machine-'));
    const machine = await startMachine(folder, image, { cache: 'writeback' });
    await work(machine);
    await machine.quit();
  });
}

/** Writes random bytes to some of the blocks of a disk, each once, in a random order that the seed gives. */
export async function writeInRandomOrder(machine, { diskBytes, blockBytes, blockCount, seed }) {
  const order = shuffled(diskBytes / blockBytes, new Random(seed, 0));
  const block = Buffer.alloc(blockBytes);
  for (const index of order.slice(0, blockCount)) {
    checkInterrupted();
    await machine.write(index * blockBytes, crypto.randomFillSync(block));
  }
}

function shuffled(count, random) {
  const order = Uint32Array.from({ length: count }, (_, index) => index);
  for (let last = count - 1; last > 0; last--) {
    const other = random.below(last + 1);
    [order[last], order[other]] = [order[other], order[last]];
  }
  return order;
}
