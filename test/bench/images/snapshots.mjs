/** Images of which snapshots are read. */

import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { checkInterrupted } from '../run.mjs';
import { writeRandomFile } from './data.mjs';
import { CLUSTER_BYTES, convert, createImage, withMachine, writeInRandomOrder, writeRawFile } from './qemu.mjs';

/** How much of the disk is written again between two nights. */
const CHANGED_SHARE = 1 / 8;

/** A snapshot each night; the disk changes between them. */
export async function makeNights(folder, { layoutBytes, snapshotCount }) {
  const image = path.join(folder, 'disk.qcow2');
  const names = Array.from({ length: snapshotCount }, (_, index) => `night-${index + 1}`);
  await makeDisk(folder, image, layoutBytes);
  const blockCount = (layoutBytes / CLUSTER_BYTES) * CHANGED_SHARE;
  await withMachine(image, async (machine) => {
    for (const [seed, name] of names.entries()) {
      await machine.createSnapshot(name);
      await writeInRandomOrder(machine, { diskBytes: layoutBytes, blockBytes: CLUSTER_BYTES, blockCount, seed });
    }
  });
  return await subjectOf(folder, image, names);
}

/** Two snapshots that differ in the last cluster only, so that `cmp` has to read both to their ends. */
export async function makeTwins(folder, { layoutBytes }) {
  const image = path.join(folder, 'disk.qcow2');
  await makeDisk(folder, image, layoutBytes);
  await withMachine(image, async (machine) => {
    await machine.createSnapshot('before');
    await machine.write(layoutBytes - CLUSTER_BYTES, crypto.randomBytes(CLUSTER_BYTES));
    await machine.createSnapshot('after');
  });
  return await subjectOf(folder, image, ['before', 'after']);
}

/** A large disk with many snapshots, each of which has an L1 table of its own; the last one is the view. */
export async function makeManySnapshots(folder, { manySnapshotsBytes, manySnapshotsCount }) {
  const image = path.join(folder, 'disk.qcow2');
  await createImage(image, [image, String(manySnapshotsBytes)]);
  const [offset, length] = [manySnapshotsBytes - 2 ** 30, CLUSTER_BYTES];
  const last = crypto.randomBytes(length);
  const names = Array.from({ length: manySnapshotsCount }, (_, index) => `snapshot-${index + 1}`);
  await withMachine(image, async (machine) => {
    for (const name of names) {
      checkInterrupted();
      await machine.write(offset, name === names.at(-1) ? last : crypto.randomBytes(length));
      await machine.createSnapshot(name);
    }
    // The current state is another.
    await machine.write(offset, crypto.randomBytes(length));
  });
  const pieces = [{ offset, length, sha256: crypto.createHash('sha256').update(last).digest('hex') }];
  return { image, files: [image], views: [{ snapshot: names.at(-1), pieces }] };
}

async function makeDisk(folder, image, sizeBytes) {
  const raw = path.join(folder, 'first.raw');
  writeRandomFile(raw, sizeBytes);
  await convert(raw, image);
  fs.rmSync(raw);
}

async function subjectOf(folder, image, names) {
  const views = [];
  for (const snapshot of names) {
    views.push({ snapshot, raw: await writeRawFile(image, path.join(folder, `${snapshot}.raw`), snapshot) });
  }
  return { image, files: [image], views };
}
