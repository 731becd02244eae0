/** The image that the rows of `damage-table.ts` damage, and what is where in it. */

import fs from 'node:fs';
import { tryCommand } from '../support/run-command.ts';
import { DamagedImage, offsetOf } from './damaged-image.ts';
import { createImage, createSnapshot, runQemuIo } from './qemu.ts';
import { Random } from './random.ts';

export const STATE_NAMES = ['current', 'mon', 'tue'] as const;
export type StateName = (typeof STATE_NAMES)[number];

export const CLUSTER_BYTES = 4096;
export const DISK_BYTES = 8 << 20;
/** What one L2 table maps: the disk has four. */
export const TABLE_COVERAGE_BYTES = (CLUSTER_BYTES / 8) * CLUSTER_BYTES;
/** A cluster of data that only the current state has. */
export const DATA_OFFSET = 64 << 10;
/** A compressed cluster that only the current state has; it is the last one of the file. */
export const COMPRESSED_OFFSET = 4100 << 10;

/**
 * Snapshots `mon` and `tue` and a current state; each has a first L2 table of its own, and the current state its second and
 * third as well. None has data in the last quarter but `tue` and the current state.
 */
export function makeDamageSample(folder: string): string {
  const image = `${folder}/healthy.qcow2`;
  const pattern = `${folder}/pattern`;
  // Half of each byte is known, so that it can be compressed, but not to a whole number of sectors.
  fs.writeFileSync(
    pattern,
    new Random(1).bytes(CLUSTER_BYTES).map((byte) => byte & 0x0f),
  );
  createImage(image, { sizeBytes: DISK_BYTES, options: [`cluster_size=${CLUSTER_BYTES}`] });
  runQemuIo(image, ['write -q -P 0x11 0 3M', 'write -q -P 0x12 5M 512k']);
  createSnapshot(image, 'mon');
  runQemuIo(image, ['write -q -P 0x21 1M 128k', 'write -q -P 0x22 6M 512k']);
  createSnapshot(image, 'tue');
  runQemuIo(image, ['write -q -P 0x31 64k 64k', 'write -q -P 0x32 2M 64k', `write -q -c -s ${pattern} 4100k 4k`]);
  return image;
}

/** Copies the image to `path` and damages the copy. */
export function makeDamagedCopy(healthy: string, path: string, apply: (image: DamagedImage) => void): void {
  fs.copyFileSync(healthy, path);
  const image = new DamagedImage(path);
  try {
    apply(image);
  } finally {
    image.close();
  }
}

/**
 * The bytes that QEMU reads in a state, by way of the file `raw`, or what it says instead. It gives every state the size of
 * the current one, which is that of all of them here.
 */
export function readStateWithQemu(image: string, state: StateName, raw: string): Buffer | string {
  const snapshot = state === 'current' ? [] : ['-l', `snapshot.name=${state}`];
  const { status, stderr } = tryCommand('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', ...snapshot, image, raw]);
  return status === 0 ? fs.readFileSync(raw) : stderr;
}

/** What QEMU reads in every state of an image that is not damaged. */
export function readTruth(healthy: string, raw: string): ReadonlyMap<StateName, Buffer> {
  return new Map(
    STATE_NAMES.map((state) => {
      const bytes = readStateWithQemu(healthy, state, raw);
      if (typeof bytes === 'string') throw new Error(bytes);
      return [state, bytes];
    }),
  );
}

/** Where entry `index` of the L1 table of the current state is. */
export function l1Entry(image: DamagedImage, index: number): number {
  return Number(image.u64(40)) + index * 8;
}

/** Where the L2 entry of the current state for a guest offset is. */
export function l2Entry(image: DamagedImage, offset: number): number {
  const table = offsetOf(image.u64(l1Entry(image, Math.floor(offset / TABLE_COVERAGE_BYTES))));
  return table + ((offset % TABLE_COVERAGE_BYTES) / CLUSTER_BYTES) * 8;
}

/** Where entry `index` of the snapshot table is. */
export function snapshotEntry(image: DamagedImage, index: number): number {
  let at = Number(image.u64(64));
  for (let before = 0; before < index; before++) {
    const idAndName = image.u32(at + 12);
    const bytes = 40 + image.u32(at + 36) + (idAndName >>> 16) + (idAndName & 0xffff);
    at += Math.ceil(bytes / 8) * 8;
  }
  return at;
}
