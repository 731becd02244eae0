/**
 * Tells whether more clusters are in use than the file system has allocated for the image file: then some of them are holes of the
 * file, and read as zeros. As QEMU tells it (qcow2_detect_metadata_preallocation, block/qcow2-refcount.c), which asks the file system
 * for holes only then.
 */

import type { Qcow2File } from './open-qcow2.ts';
import { StoredRefcount } from './stored-refcount.ts';
import { REFCOUNT_UNKNOWN } from './wire/refcount-entries.ts';

const CACHE_BYTES = 64 * 1024;

/**
 * @param allocatedBytes what the file takes on its disk
 * @throws Qcow2fsError IO.
 */
export function hasPreallocatedMetadata(file: Qcow2File, allocatedBytes: number): boolean {
  const { clusterBytes, storage } = file;
  if (file.header.refcountTableOffset % clusterBytes !== 0) return false;
  const allocatedCount = Math.floor(allocatedBytes / clusterBytes);
  const threshold = Math.max(Math.floor((allocatedCount * 10) / 9), allocatedCount + 2);
  const refcounts = new StoredRefcount(storage, file, CACHE_BYTES);
  const clusterCount = Math.ceil(storage.sizeBytes / clusterBytes);
  let usedCount = 0;
  for (let cluster = 0; cluster < clusterCount && usedCount < threshold; cluster++) {
    const blockIndex = Math.floor(cluster / refcounts.clustersPerBlock);
    if (refcounts.blockOffset(blockIndex) === 0) {
      // A crafted file may be larger than anybody can count one by one.
      cluster = (blockIndex + 1) * refcounts.clustersPerBlock - 1;
      continue;
    }
    const refcount = refcounts.of(cluster);
    if (refcount !== 0 && refcount !== REFCOUNT_UNKNOWN) usedCount += 1;
  }
  return usedCount >= threshold;
}
