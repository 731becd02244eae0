/** Walks over the extents of a disk: the answers to SEEK_DATA, SEEK_HOLE and st_blocks. */

import { createExtent, type Disk, isSparse } from './disk.ts';

/**
 * What a stat may walk: 1,024 L2 tables of 64 KiB, the default cluster size of qcow2. Larger tables map more (one of 2 MiB
 * maps 512 GiB), so the limit is one of bytes to read.
 */
export const MAX_WALKED_METADATA_BYTES = 64 * 1024 * 1024;

/** Guest bytes that are looked at at once: an extent may go over any number of tables. */
const MAX_SEEK_STEP_BYTES = 2 ** 36;

const scratch = createExtent();

/** The first offset >= `offset` that is not sparse, or undefined if none follows. */
export function seekData(disk: Disk, offset: number): number | undefined {
  const at = skip(disk, offset, true);
  return at < disk.sizeBytes ? at : undefined;
}

/** The first offset >= `offset` that is sparse, or the size of the disk. */
export function seekHole(disk: Disk, offset: number): number {
  return skip(disk, offset, false);
}

/** Bytes in [`offset`, `end`) that are not sparse. */
export function countAllocatedBytes(disk: Disk, offset: number, end: number): number {
  let allocated = 0;
  let at = offset;
  while (at < end) {
    disk.extentAt(at, end - at, scratch);
    if (!isSparse(scratch.kind)) allocated += scratch.lengthBytes;
    at += scratch.lengthBytes;
  }
  return allocated;
}

/**
 * A crafted image has more tables to walk than a caller, who cannot be killed meanwhile, can wait for. What was not looked
 * at is then called data, which is true of everything: SEEK_DATA ends where it is, SEEK_HOLE at the end of the disk.
 */
const PATIENCE_MS = 1000;

function skip(disk: Disk, offset: number, whileSparse: boolean): number {
  const deadline = performance.now() + PATIENCE_MS;
  let at = offset;
  while (at < disk.sizeBytes) {
    disk.extentAt(at, Math.min(disk.sizeBytes - at, MAX_SEEK_STEP_BYTES), scratch);
    if (isSparse(scratch.kind) !== whileSparse) return at;
    at += scratch.lengthBytes;
    if (performance.now() > deadline) return whileSparse ? at : disk.sizeBytes;
  }
  return disk.sizeBytes;
}
