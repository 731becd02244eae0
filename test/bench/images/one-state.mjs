/**
 * Images of which the current state is read. Each function makes one in a folder and returns the subject of a case:
 * `image`, all `files` that it consists of, `views` ({snapshot, raw}: the current state if there is no snapshot), and
 * `passphraseFile` if it is encrypted.
 */

import fs from 'node:fs';
import path from 'node:path';
import { run } from '../run.mjs';
import { writeCompressibleFile, writeRandomFile } from './data.mjs';
import { CLUSTER_BYTES, convert, createImage, withMachine, writeInRandomOrder, writeRawFile } from './qemu.mjs';

/** So that not all of the disk is in one piece in the file: a 64th of it is written again after a snapshot. */
const REWRITTEN_SHARE = 1 / 64;
const PASSPHRASE = 'a passphrase';
/** Milliseconds of key derivation: opening an encrypted image is not what is measured. */
const ITERATION_TIME_MS = 100;

export async function makePlain(folder, { plainBytes }) {
  const { image, raw } = await makeOfRandomData(folder, plainBytes, []);
  await run('qemu-img', ['snapshot', '-c', 'before', image]);
  const blockCount = (plainBytes / CLUSTER_BYTES) * REWRITTEN_SHARE;
  await withMachine(image, (machine) =>
    writeInRandomOrder(machine, { diskBytes: plainBytes, blockBytes: CLUSTER_BYTES, blockCount, seed: 1 }),
  );
  await writeRawFile(image, raw);
  return subjectOf(image, raw);
}

/** `options` are those of `qemu-img create -o`. */
export function makeWithOptions(...options) {
  return async (folder, { layoutBytes }) => {
    const { image, raw } = await makeOfRandomData(folder, layoutBytes, options);
    return subjectOf(image, raw);
  };
}

/** Half of the subclusters are in the image, the others in its backing file. */
export async function makeWithSubclusters(folder, { layoutBytes }) {
  const { image: base, raw } = await makeOfRandomData(folder, layoutBytes, [], 'base');
  const image = path.join(folder, 'disk.qcow2');
  await createImage(image, ['-o', 'extended_l2=on,cluster_size=128k', '-b', path.basename(base), '-F', 'qcow2', image]);
  const blockBytes = 16 * 1024;
  await withMachine(image, (machine) =>
    writeInRandomOrder(machine, {
      diskBytes: layoutBytes,
      blockBytes,
      blockCount: layoutBytes / blockBytes / 2,
      seed: 1,
    }),
  );
  await writeRawFile(image, raw);
  return { ...subjectOf(image, raw), files: [image, base] };
}

/** Eight backing files below the image, each with a ninth of what is read. */
export async function makeChain(folder, { layoutBytes }) {
  const { image: base, raw } = await makeOfRandomData(folder, layoutBytes, [], 'layer-0');
  const files = [base];
  const blockCount = Math.floor(layoutBytes / CLUSTER_BYTES / 9);
  for (let layer = 1; layer <= 8; layer++) {
    const image = path.join(folder, `layer-${layer}.qcow2`);
    await createImage(image, ['-b', path.basename(files.at(-1)), '-F', 'qcow2', image]);
    await withMachine(image, (machine) =>
      writeInRandomOrder(machine, { diskBytes: layoutBytes, blockBytes: CLUSTER_BYTES, blockCount, seed: layer }),
    );
    files.push(image);
  }
  const image = files.at(-1);
  await writeRawFile(image, raw);
  return { ...subjectOf(image, raw), files };
}

/** As a guest leaves it that fills its disk in no order: neighbours are nowhere near each other in the file. */
export async function makeFragmented(folder, { layoutBytes }) {
  const image = path.join(folder, 'disk.qcow2');
  await createImage(image, [image, String(layoutBytes)]);
  const blockCount = layoutBytes / CLUSTER_BYTES;
  await withMachine(image, (machine) =>
    writeInRandomOrder(machine, { diskBytes: layoutBytes, blockBytes: CLUSTER_BYTES, blockCount, seed: 1 }),
  );
  return subjectOf(image, await writeRawFile(image, path.join(folder, 'disk.raw')));
}

/** `type` is zlib or zstd. */
export function makeCompressed(type) {
  return async (folder, { layoutBytes }) => {
    const [raw, image] = [path.join(folder, 'disk.raw'), path.join(folder, 'disk.qcow2')];
    writeCompressibleFile(raw, layoutBytes);
    await convert(raw, image, [`compression_type=${type}`], ['-c']);
    return subjectOf(image, raw);
  };
}

/** QEMU takes aes-256 with xts by default. */
export async function makeEncrypted(folder, { layoutBytes }) {
  const passphraseFile = path.join(folder, 'passphrase');
  fs.writeFileSync(passphraseFile, PASSPHRASE);
  const [raw, image] = [path.join(folder, 'disk.raw'), path.join(folder, 'disk.qcow2')];
  writeRandomFile(raw, layoutBytes);
  const options = ['encrypt.format=luks', 'encrypt.key-secret=key', `encrypt.iter-time=${ITERATION_TIME_MS}`];
  await convert(raw, image, options, ['--object', `secret,id=key,file=${passphraseFile}`]);
  return { ...subjectOf(image, raw), passphraseFile };
}

async function makeOfRandomData(folder, sizeBytes, options, name = 'disk') {
  const [raw, image] = [path.join(folder, 'disk.raw'), path.join(folder, `${name}.qcow2`)];
  writeRandomFile(raw, sizeBytes);
  await convert(raw, image, options);
  return { image, raw };
}

function subjectOf(image, raw) {
  return { image, files: [image], views: [{ raw }] };
}
