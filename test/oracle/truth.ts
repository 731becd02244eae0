/**
 * What QEMU reads in each state of an image, as raw files.
 *
 * `qemu-img convert -l` reads a snapshot with the current disk size instead of the snapshot's own. Applying the
 * snapshot to a copy of the image has no such fault.
 */

import fs from 'node:fs';
import path from 'node:path';
import { applySnapshot, convertToRaw, listSnapshots, mapText, type SnapshotInfo } from './qemu.ts';

export interface TrueState {
  /** undefined: the current state. */
  readonly snapshot: { readonly id: string; readonly name: string } | undefined;
  /** What messages call it. */
  readonly title: string;
  readonly rawPath: string;
  /** What `qemu-img map --output=json` prints of it. */
  readonly map: string;
}

/** The current state first, then the snapshots in the order of the image. Raw files go to `folder`. */
export function trueStates(imagePath: string, folder: string): TrueState[] {
  const rawPath = path.join(folder, 'current.raw');
  convertToRaw(imagePath, rawPath);
  const current = { snapshot: undefined, title: 'the current state', rawPath, map: mapText(imagePath) };
  const snapshots = listSnapshots(imagePath);
  if (snapshots.length === 0) return [current];
  // Beside the image, since a relative backing file name is relative to the folder of the image.
  const copy = `${imagePath}.copy`;
  try {
    fs.copyFileSync(imagePath, copy);
    // One after the other: to apply a snapshot changes no other one.
    return [current, ...snapshots.map((snapshot) => applied(copy, snapshot, folder))];
  } finally {
    fs.rmSync(copy, { force: true });
  }
}

function applied(copy: string, snapshot: SnapshotInfo, folder: string): TrueState {
  const rawPath = path.join(folder, `snapshot-${snapshot.id}.raw`);
  applySnapshot(copy, snapshot.id);
  convertToRaw(copy, rawPath);
  return { snapshot, title: `snapshot ${snapshot.id} (${snapshot.name})`, rawPath, map: mapText(copy) };
}
