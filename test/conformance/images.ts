/** The images that the suite shows through every transport, and what QEMU says about them. */

import fs from 'node:fs';
import path from 'node:path';
import { makeSampleImage } from '../mounted/sample-image.ts';
import { applySnapshot, createImage, createSnapshot, type MapEntry, mapImage, runQemuIo } from '../oracle/qemu.ts';
import { trueStates } from '../oracle/truth.ts';
import { runMachine, vmStateByQemu } from '../oracle/vm-state.ts';
import { runCommand } from '../support/run-command.ts';

const MIB = 1024 * 1024;
const CLUSTER_BYTES = 65_536;

/** As `qemu-img info` tells it. */
export interface QemuSnapshot {
  readonly id: string;
  readonly name: string;
  readonly 'vm-state-size': number;
  readonly 'date-sec': number;
  readonly 'date-nsec': number;
}

export interface StateTruth {
  /** Its folder, by the table of names in the README. */
  readonly folder: string;
  readonly snapshot: QemuSnapshot | undefined;
  /** What QEMU reads in it. */
  readonly rawPath: string;
  readonly map: readonly MapEntry[];
  /** The bytes of its VM state, if it has one. */
  readonly vmState: Buffer | undefined;
}

/** What each name becomes as the name of a folder. Two snapshots are called `first`. */
const FOLDER_OF_NAME: Readonly<Record<string, string>> = { 'a/b %': 'a%2Fb %25', '.': '%2E' };

/** Sizes that change, holes, compressed clusters, names that need an escape, a VM state. */
export function makeMainImage(folder: string): string {
  const { path: image } = makeSampleImage(folder);
  for (const name of ['a/b %', 'grün', '.', 'first']) createSnapshot(image, name);
  runMachine(image, ['savevm live']);
  return image;
}

/** Works in `folder`, where the raw files stay. */
export function truthOf(image: string, folder: string): StateTruth[] {
  const { snapshots } = JSON.parse(runCommand('qemu-img', ['info', '--output=json', image])) as {
    snapshots: QemuSnapshot[];
  };
  const seen = new Set<string>();
  return trueStates(image, folder).map(({ snapshot: found, rawPath }) => {
    const snapshot = snapshots.find(({ id }) => id === found?.id);
    if (snapshot === undefined)
      return { folder: 'current', snapshot, rawPath, map: mapImage(image), vmState: undefined };
    const { id, name, 'vm-state-size': vmStateBytes } = snapshot;
    const folderName = seen.has(name) ? `${name}%id=${id}` : (FOLDER_OF_NAME[name] ?? name);
    seen.add(name);
    return {
      folder: `snapshots/${folderName}`,
      snapshot,
      rawPath,
      map: mapOfSnapshot(folder, image, id),
      vmState: vmStateBytes === 0 ? undefined : vmStateByQemu(folder, image, id, vmStateBytes),
    };
  });
}

function mapOfSnapshot(folder: string, image: string, id: string): MapEntry[] {
  const copy = path.join(folder, 'map.qcow2');
  fs.copyFileSync(image, copy);
  applySnapshot(copy, id);
  const map = mapImage(copy);
  fs.rmSync(copy);
  return map;
}

/** Its file ends before its last cluster, which held what the disk has at `DAMAGED_OFFSET`. */
export function makeCutImage(folder: string): string {
  const image = path.join(folder, 'cut.qcow2');
  createImage(image, { sizeBytes: 4 * MIB });
  runQemuIo(image, ['write -q -P 1 0 1M']);
  runQemuIo(image, [`write -q -P 2 ${DAMAGED_OFFSET} ${CLUSTER_BYTES}`]);
  fs.truncateSync(image, fs.statSync(image).size - CLUSTER_BYTES);
  return image;
}
export const DAMAGED_OFFSET = 2 * MIB;

/** Its directories do not fit into one reply. */
export function makeCrowdedImage(folder: string): string {
  const image = path.join(folder, 'crowded.qcow2');
  createImage(image, { sizeBytes: MIB });
  for (const name of CROWDED_NAMES) createSnapshot(image, name);
  return image;
}
export const CROWDED_NAMES = Array.from({ length: 40 }, (_, index) => `${index} ${'x'.repeat(200)}`);
