/**
 * What QEMU reads in each state of an image, as raw files.
 *
 * `qemu-img convert -l` reads a snapshot with the current disk size instead of the snapshot's own. Applying the
 * snapshot to a copy of the image has no such fault.
 */

import fs from 'node:fs';
import path from 'node:path';
import { applySnapshot, convertToRaw, listSnapshots } from './qemu.ts';

export interface TrueState {
  /** undefined: the current state. */
  readonly snapshot: { readonly id: string; readonly name: string } | undefined;
  /** What messages call it. */
  readonly title: string;
  readonly rawPath: string;
}

/** The current state first, then the snapshots in the order of the image. Raw files go to `folder`. */
export function trueStates(imagePath: string, folder: string): TrueState[] {
  const current = { snapshot: undefined, title: 'the current state', rawPath: path.join(folder, 'current.raw') };
  convertToRaw(imagePath, current.rawPath);
  return [
    current,
    ...listSnapshots(imagePath).map((snapshot) => {
      const rawPath = path.join(folder, `snapshot-${snapshot.id}.raw`);
      convertSnapshot(imagePath, snapshot.id, rawPath);
      return { snapshot, title: `snapshot ${snapshot.id} (${snapshot.name})`, rawPath };
    }),
  ];
}

function convertSnapshot(imagePath: string, id: string, rawPath: string): void {
  // Beside the image, since a relative backing file name is relative to the folder of the image.
  const copy = `${imagePath}.copy`;
  try {
    fs.copyFileSync(imagePath, copy);
    applySnapshot(copy, id);
    convertToRaw(copy, rawPath);
  } finally {
    fs.rmSync(copy, { force: true });
  }
}
