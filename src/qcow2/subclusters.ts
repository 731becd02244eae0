/**
 * The subcluster bitmap of an extended L2 entry (docs/interop/qcow2.txt, "Extended L2 Entries"): bits 0-31 allocation
 * status, bits 32-63 reads-as-zeros status of subclusters 0-31.
 */

import { SUBCLUSTERS_PER_CLUSTER } from './limits.ts';

export interface SubclusterRun {
  kind: 'unallocated' | 'zero' | 'normal' | 'invalid';
  /** Subclusters of this kind, from the one that was asked for. */
  count: number;
}

/**
 * Finds the run of like subclusters that starts at `subcluster`. `zeroBits` is the high, `allocationBits` the low half
 * of the bitmap; `hasCluster` tells whether the entry has a host cluster. An entry with a contradiction anywhere is
 * `invalid` as a whole, as in QEMU (qcow2_get_subcluster_range_type).
 */
export function findSubclusterRun(
  zeroBits: number,
  allocationBits: number,
  hasCluster: boolean,
  subcluster: number,
  into: SubclusterRun,
): void {
  if (hasCluster ? (zeroBits & allocationBits) !== 0 : allocationBits !== 0) {
    into.kind = 'invalid';
    into.count = SUBCLUSTERS_PER_CLUSTER - subcluster;
    return;
  }
  const isZero = bitAt(zeroBits, subcluster);
  const isAllocated = bitAt(allocationBits, subcluster);
  into.kind = isZero === 1 ? 'zero' : isAllocated === 1 ? 'normal' : 'unallocated';
  let end = subcluster + 1;
  while (
    end < SUBCLUSTERS_PER_CLUSTER &&
    bitAt(zeroBits, end) === isZero &&
    bitAt(allocationBits, end) === isAllocated
  ) {
    end++;
  }
  into.count = end - subcluster;
}

function bitAt(bits: number, index: number): number {
  return (bits >>> index) & 1;
}
