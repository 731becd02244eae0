/** The image that the tests with ordinary tools share: three snapshots and a current state, with plenty of holes. */

import { writeFileSync } from 'node:fs';
import { createImage, createSnapshot, resizeImage, runQemuIo } from '../oracle/qemu.ts';
import { Random } from '../oracle/random.ts';
import { type TrueState, trueStates } from '../oracle/truth.ts';

const MIB = 1024 * 1024;

export interface SampleImage {
  readonly path: string;
  readonly states: readonly TrueState[];
}

export function makeSampleImage(folder: string): SampleImage {
  const path = `${folder}/sample.qcow2`;
  const pattern = `${folder}/pattern`;
  writeFileSync(pattern, new Random(1).bytes(MIB + 512));
  createImage(path, { sizeBytes: 24 * MIB });
  runQemuIo(path, [`write -q -s ${pattern} 0 5M`, `write -q -c -s ${pattern} 8M 2M`]);
  createSnapshot(path, 'first');
  runQemuIo(path, [`write -q -s ${pattern} 1000k 900k`, 'write -q -z -u 3M 1M', `write -q -s ${pattern} 20M 3M`]);
  createSnapshot(path, 'second');
  // The third ends in the middle of a cluster, and even of a page.
  resizeImage(path, 33 * MIB + 1536);
  runQemuIo(path, [`write -q -s ${pattern} 30M 3073k`, 'discard -q 8M 1M']);
  createSnapshot(path, 'third');
  resizeImage(path, 28 * MIB);
  runQemuIo(path, [`write -q -s ${pattern} 7M 300k`, 'write -q -z 0 2M']);
  return { path, states: trueStates(path, folder) };
}
