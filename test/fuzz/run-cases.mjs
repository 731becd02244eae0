/** Runs the cases of a seed: each is a healthy image, a few mutations of one of its files, and `exercise`. */

import fs from 'node:fs';
import path from 'node:path';
import { unlockImages } from '../../dist/open-image/layer-keys.js';
import { PASSPHRASE } from './corpus.mjs';
import { exercise, Finding } from './exercise.mjs';
import { mutate, Target } from './mutations.mjs';
import { Random } from './random.mjs';
import { Witness } from './witness.mjs';

/** Lays the files of a corpus below `folder`, where cases damage them in place and put them right again. */
export async function prepare(corpus, folder) {
  const images = [];
  for (const [index, image] of corpus.entries()) {
    const home = path.join(folder, String(index));
    fs.mkdirSync(home);
    const files = image.files.map((file) => {
      const place = path.join(home, file.name);
      fs.writeFileSync(place, file.healthy);
      return { ...file, path: place, fd: fs.openSync(place, 'r+'), bytes: Buffer.from(file.healthy) };
    });
    const keys = image.isEncrypted
      ? (await unlockImages([files[0].path], async (names) => names.map(() => Buffer.from(PASSPHRASE)))).map((key) => ({
          ...key,
          // The memory is shared, and whoever uses the key overwrites it.
          key: Buffer.from(key.key),
        }))
      : [];
    images.push({ ...image, files, keys, digest: undefined });
  }
  return images;
}

/** Reads that QEMU was asked about and gave the same bytes for. */
export const confirmed = { reads: 0 };

/**
 * Runs one case. Returns undefined, or what was found with the mutations and the damaged files.
 * A finding is only one if it is found twice: a busy machine may take a second for anything.
 */
export function runCase(images, seed, number, asksQemu) {
  const random = new Random(seed, number);
  const image = pickWeighted(images, random);
  const file = image.files[random.chance(0.75) ? 0 : random.below(image.files.length)];
  const target = new Target(file);
  const isIdle = mutate(target, random);
  for (const [position, length] of target.dirty) fs.writeSync(file.fd, file.bytes, position, length, position);
  if (target.sizeBytes !== file.healthy.length) fs.ftruncateSync(file.fd, target.sizeBytes);
  const { luks } = file.structure;
  const isKeyTouched = luks.some(([start, length]) => target.isTouched(start, length));
  const witness = asksQemu ? new Witness() : undefined;
  const { path: opened } = image.files[0];
  const act = () => exercise(opened, new Random(seed, number), isKeyTouched ? undefined : image.keys, witness);
  try {
    const digest = attempt(act);
    askWitness(witness, opened, image);
    if (isIdle) requireHealthyBytes(target, digest, () => attempt(act));
    return undefined;
  } catch (error) {
    if (!(error instanceof Finding)) throw error;
    return describe(error, image, target);
  } finally {
    restore(target);
  }
}

/** Stacks cost more than all the rest, as damage is many errors; so they are only made the second time. */
function attempt(act) {
  const { stackTraceLimit } = Error;
  try {
    Error.stackTraceLimit = 0;
    return act();
  } catch (error) {
    if (!(error instanceof Finding)) throw error;
    Error.stackTraceLimit = stackTraceLimit;
    return act();
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
}

function askWitness(witness, opened, { isEncrypted }) {
  if (witness === undefined) return;
  try {
    confirmed.reads += witness.ask(opened, isEncrypted);
  } catch (error) {
    throw new Finding('readAt', error.message, { cause: error });
  }
}

/** Mutations that have no part in which bytes a state has must leave all that is read as it was. */
function requireHealthyBytes(target, digest, act) {
  restore(target);
  if (digest !== act()) throw new Finding('idle', 'the bytes of a state depend on what is no part of its tables');
}

function describe(error, image, { file, log, sizeBytes }) {
  return {
    message: error.message,
    image: image.title,
    mutations: [...log],
    files: image.files.map((each) => ({
      name: each.name,
      bytes: Buffer.from(each === file ? file.bytes.subarray(0, sizeBytes) : each.healthy),
    })),
  };
}

function restore({ dirty, file, sizeBytes }) {
  const { bytes, fd, healthy } = file;
  for (const [position, length] of dirty) healthy.copy(bytes, position, position, position + length);
  if (sizeBytes < healthy.length) fs.writeSync(fd, healthy, sizeBytes, healthy.length - sizeBytes, sizeBytes);
  // A mutation may also have made the file longer.
  fs.ftruncateSync(fd, healthy.length);
  for (const [position, length] of dirty) {
    const within = Math.min(length, healthy.length - position);
    if (within > 0) fs.writeSync(fd, healthy, position, within, position);
  }
}

function pickWeighted(images, random) {
  let at = random.below(images.reduce((sum, { weight }) => sum + weight, 0) * 1000) / 1000;
  for (const image of images) {
    at -= image.weight;
    if (at < 0) return image;
  }
  return images[0];
}
