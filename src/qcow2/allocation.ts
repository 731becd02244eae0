/** How many guest bytes a state holds: the answer to st_blocks. */

import type { Disk } from '../disk/disk.ts';
import {
  countAllocatedBytes as countExtents,
  type LookupBudget,
  MAX_EXTENT_LOOKUPS,
  MAX_WALKED_METADATA_BYTES,
} from '../disk/walk.ts';
import type { ClusterMap } from './cluster-map.ts';
import type { Qcow2File } from './open-qcow2.ts';

/** Bounds the memory of the counts that are kept. */
const MAX_KEPT_TABLES = 1 << 18;

/** What is known of L2 tables already, for all states of a file: snapshots share most of their tables. */
export class TableCounts {
  readonly #counts = new Map<number, { readonly offset: number; readonly bytes: number }>();

  /**
   * The count for the table at `l2Offset` when it maps guest offset `offset`; `count` makes it when it is not known, and is
   * not believed when it ends as the budget does.
   */
  get(l2Offset: number, offset: number, budget: LookupBudget, count: () => number): number {
    const known = this.#counts.get(l2Offset);
    if (known?.offset === offset) return known.bytes;
    const bytes = count();
    if (budget.left < 0) return bytes;
    if (this.#counts.size >= MAX_KEPT_TABLES) this.#counts.clear();
    this.#counts.set(l2Offset, { offset, bytes });
    return bytes;
  }
}

const L1_ENTRY_BYTES = 8;

/** Bytes of the L1 table and the L2 tables that a state has. */
export function countTableBytes(map: ClusterMap, { clusterBytes }: Qcow2File, sizeBytes: number): number {
  const end = Math.min(sizeBytes, map.mappedBytes);
  let bytes = 0;
  for (let offset = 0; offset < end; offset += map.tableCoverageBytes) {
    bytes += L1_ENTRY_BYTES + (map.l2TableOffset(offset) === 0 ? 0 : clusterBytes);
  }
  return bytes;
}

/**
 * Bytes of `disk` that are neither holes nor zeros. Damaged ranges count: a copy must meet their errors.
 *
 * Exact while the tables to walk have at most `MAX_WALKED_METADATA_BYTES` and need at most `MAX_EXTENT_LOOKUPS`. Otherwise an
 * upper bound: the size of the file, and what the backing disk holds. (Compressed clusters may hold more than the file is
 * long; the bound ignores that, as a copy only needs to see that the disk is sparse.)
 * @throws Qcow2fsError IO.
 */
export function countAllocatedBytes(
  disk: Disk,
  map: ClusterMap,
  file: Qcow2File,
  backing: Disk | undefined,
  counts: TableCounts,
): number {
  if (disk.metadataBytes() <= MAX_WALKED_METADATA_BYTES) {
    const budget = { left: MAX_EXTENT_LOOKUPS };
    const allocated = countByTables(disk, map, backing, counts, budget);
    if (budget.left >= 0) return allocated;
  }
  const below = backing === undefined ? 0 : backing.allocatedBytes();
  return Math.min(disk.sizeBytes, file.dataStorage.sizeBytes + below);
}

function countByTables(
  disk: Disk,
  map: ClusterMap,
  backing: Disk | undefined,
  counts: TableCounts,
  budget: LookupBudget,
): number {
  const mappedEnd = Math.min(disk.sizeBytes, map.mappedBytes);
  let allocated = backing === undefined ? 0 : countExtents(disk, mappedEnd, disk.sizeBytes, budget);
  for (let offset = 0; offset < mappedEnd && budget.left >= 0; offset += map.tableCoverageBytes) {
    const end = Math.min(mappedEnd, offset + map.tableCoverageBytes);
    const l2Offset = map.l2TableOffset(offset);
    if (l2Offset <= 0 || end % map.tableCoverageBytes !== 0) {
      // Without a table, a backing disk decides alone. A table that is cut by the end of the disk is not like its
      // twin in a state of another size.
      if (l2Offset !== 0 || backing !== undefined) allocated += countExtents(disk, offset, end, budget);
    } else {
      allocated += counts.get(l2Offset, offset, budget, () => countExtents(disk, offset, end, budget));
    }
  }
  return allocated;
}
