/** Where a mount shows the states that QEMU was asked for. */

import path from 'node:path';
import { escapeName } from '../../src/tree/file-names.ts';
import type { TrueState } from '../oracle/truth.ts';

/** The disk.raw of a state. Snapshots are found by their id, which is unique, and not by the name that is shown. */
export function diskFile(mountpoint: string, { snapshot }: TrueState): string {
  if (snapshot === undefined) return path.join(mountpoint, 'current', 'disk.raw');
  return path.join(mountpoint, 'by-id', escapeName(snapshot.id), 'disk.raw');
}
