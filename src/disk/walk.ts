/** Walks over the extents of a disk: the answers to SEEK_DATA, SEEK_HOLE and st_blocks. */

import { createExtent, type Disk, isSparse } from './disk.ts';

/**
 * What a stat may walk: 1,024 L2 tables of 64 KiB, the default cluster size of qcow2. Larger tables map more (one of 2 MiB
 * maps 512 GiB), so the limit is one of bytes to read.
 */
export const MAX_WALKED_METADATA_BYTES = 64 * 1024 * 1024;

/**
 * What a stat may look up: extents, each times the layers that were asked for it. At 0.1 to 0.2 us each, well below a second;
 * tables of `MAX_WALKED_METADATA_BYTES` may have four times as many extents, and a chain 64 layers.
 */
export const MAX_EXTENT_LOOKUPS = 2 ** 21;

/** Look-ups that are left to a walk; negative once it had to end before its end. */
export interface LookupBudget {
  left: number;
}

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

/** Bytes in [`offset`, `end`) that are not sparse; too few once the budget is spent. */
export function countAllocatedBytes(disk: Disk, offset: number, end: number, budget: LookupBudget): number {
  let allocated = 0;
  let at = offset;
  while (at < end && budget.left >= 0) {
    disk.extentAt(at, end - at, scratch);
    budget.left -= 1 + scratch.depth;
    if (!isSparse(scratch.kind)) allocated += scratch.lengthBytes;
    at += scratch.lengthBytes;
  }
  return allocated;
}

/** Bytes of the disk that are not sparse: exact while a walk would not read too much; otherwise all of them. */
export function countOrAssumeAllocated(disk: Disk): number {
  if (disk.metadataBytes() > MAX_WALKED_METADATA_BYTES) return disk.sizeBytes;
  const budget = { left: MAX_EXTENT_LOOKUPS };
  const allocated = countAllocatedBytes(disk, 0, disk.sizeBytes, budget);
  return budget.left < 0 ? disk.sizeBytes : allocated;
}

/**
 * A crafted image has more tables to walk than a caller, who cannot be killed meanwhile, can wait for. What was not looked
 * at is then called data, which is true of everything: SEEK_DATA ends where it is, SEEK_HOLE at the end of the disk. Half a
 * second, so that the answer is there within one: the last step may take its time, too.
 */
const PATIENCE_MS = 500;

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
