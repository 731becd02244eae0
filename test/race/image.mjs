/** The image of a race, made and checked by QEMU's tools. */

import fs from 'node:fs';
import path from 'node:path';
import { run } from '../bench/run.mjs';
import { BLOCK_BYTES, contentOf, differenceFrom, FIRST_EPOCH, ZEROS } from './blocks.mjs';

const DISK_BYTES = 16 * 1024 * 1024;

/** What an image starts with: nothing, compressed clusters, or a backing file. */
export const BASES = ['empty', 'compressed', 'backing'];

/** Returns its path and the epochs of its blocks. */
export async function makeRaceImage(folder, base, clusterBytes) {
  const image = path.join(folder, 'disk.qcow2');
  const options = ['-f', 'qcow2', '-o', `cluster_size=${clusterBytes}`];
  const epochs = new Uint32Array(DISK_BYTES / BLOCK_BYTES).fill(base === 'empty' ? ZEROS : FIRST_EPOCH);
  if (base === 'empty') {
    await run('qemu-img', ['create', '-q', ...options, image, String(DISK_BYTES)]);
    return { image, epochs };
  }
  const raw = path.join(folder, 'base.raw');
  fs.writeFileSync(raw, contentOf(epochs, 0, DISK_BYTES));
  if (base === 'compressed') {
    await run('qemu-img', ['convert', '-c', '-f', 'raw', '-O', 'qcow2', ...options.slice(2), raw, image]);
  } else {
    await run('qemu-img', ['create', '-q', ...options, '-b', 'base.raw', '-F', 'raw', image]);
  }
  return { image, epochs };
}

/** Throws if the image is damaged, or if QEMU reads a snapshot otherwise than the record says; `snapshots`: `{id, epochs}`. */
export async function compareWithQemu(folder, image, snapshots) {
  await run('qemu-img', ['check', '-q', image]);
  const raw = path.join(folder, 'state.raw');
  for (const { id, epochs } of snapshots) {
    await run('qemu-img', ['convert', '-l', `snapshot.id=${id}`, '-f', 'qcow2', '-O', 'raw', image, raw]);
    const difference = differenceFrom(epochs, 0, fs.readFileSync(raw));
    if (difference !== undefined) throw new Error(`QEMU reads snapshot ${id} otherwise than recorded: ${difference}`);
  }
}
