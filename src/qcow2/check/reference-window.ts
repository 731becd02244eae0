/**
 * The clusters of the file that are counted at a time. A window bounds the memory of a check: a file with more
 * clusters takes several passes over its tables.
 */

import { maxRefcount } from '../wire/refcount-entries.ts';
import { type CheckedImage, isWithinFile } from './checked-image.ts';
import type { StoredRefcounts } from './stored-refcounts.ts';

/** 256 GiB of file at the usual cluster size; 13 bytes each, with the table window. A multiple of 8. */
export const WINDOW_CLUSTERS = 1 << 22;

/** What a cluster is used for, as bits, since damage may give it two uses. */
export const CLUSTER_USES = {
  header: 1,
  l1Table: 2,
  l2Table: 4,
  refcountTable: 8,
  refcountBlock: 16,
  snapshotTable: 32,
  /** Bitmaps and the LUKS header. */
  other: 64,
  data: 128,
} as const;

export type ClusterUse = (typeof CLUSTER_USES)[keyof typeof CLUSTER_USES];

const USE_NAMES: Readonly<Record<ClusterUse, string>> = {
  1: 'the header',
  2: 'an L1 table',
  4: 'an L2 table',
  8: 'the refcount table',
  16: 'a refcount block',
  32: 'the snapshot table',
  64: 'a bitmap or the LUKS header',
  128: 'guest data',
};

export class ReferenceWindow {
  /** References found to each cluster, and the refcount that the image stores for it. */
  readonly references: Uint32Array;
  readonly stored: Uint32Array;
  readonly uses: Uint8Array;
  /** Windows that something refers to, known after the first pass. */
  readonly touched: Uint8Array;
  readonly windowClusters: number;
  start = 0;
  end = 0;
  /** Problems of entries and of ranges past the end are told on the first pass only. */
  isFirstPass = true;
  readonly #image: CheckedImage;
  readonly #maxRefcount: number;

  constructor(image: CheckedImage, maxWindowClusters: number) {
    // One more than the file has: a range may begin in a last cluster that is cut and end in the next one.
    const slotCount = image.clusterCount + 1;
    this.#image = image;
    this.#maxRefcount = maxRefcount(image.file.header.refcountOrder);
    this.windowClusters = maxWindowClusters;
    const length = Math.min(slotCount, maxWindowClusters);
    this.references = new Uint32Array(length);
    this.stored = new Uint32Array(length);
    this.uses = new Uint8Array(length);
    this.touched = new Uint8Array(Math.ceil(slotCount / maxWindowClusters));
  }

  /** @throws Qcow2fsError IO. */
  moveTo(index: number, storedRefcounts: StoredRefcounts): void {
    this.isFirstPass = index === 0;
    this.start = index * this.windowClusters;
    this.end = Math.min(this.#image.clusterCount + 1, this.start + this.windowClusters);
    this.references.fill(0);
    this.uses.fill(0);
    storedRefcounts.load(this.start, this.end - this.start, this.stored);
  }

  has(cluster: number): boolean {
    return cluster >= this.start && cluster < this.end;
  }

  /** Counts `times` references to each cluster that the range touches; a range past the end of the file is an error. */
  add(offset: number, length: number, times: number, use: ClusterUse): void {
    if (length <= 0) return;
    const { clusterBytes, file, log } = this.#image;
    if (!isWithinFile(this.#image, offset, length)) {
      if (!this.isFirstPass) return;
      log.add('past-end', offset, times, () => {
        return `${length} bytes of ${USE_NAMES[use]} lie past the end of the file, which has ${file.storage.sizeBytes} bytes`;
      });
      return;
    }
    const end = Math.floor((offset + length - 1) / clusterBytes) + 1;
    this.addClusters(Math.floor(offset / clusterBytes), end, times, use);
  }

  /** Counts `times` references to each cluster from `first` up to `end`, at most one behind the last one of the file. */
  addClusters(first: number, end: number, times: number, use: ClusterUse): void {
    if (this.isFirstPass) {
      for (let cluster = first; cluster < end; cluster += this.windowClusters) this.#touch(cluster);
      this.#touch(end - 1);
    }
    const windowEnd = Math.min(end, this.end);
    for (let cluster = Math.max(first, this.start); cluster < windowEnd; cluster++) this.#count(cluster, times, use);
  }

  /** References to a cluster of this window. */
  referencesTo(cluster: number): number {
    return this.references[cluster - this.start] ?? 0;
  }

  storedFor(cluster: number): number {
    return this.stored[cluster - this.start] ?? 0;
  }

  #touch(cluster: number): void {
    this.touched[Math.floor(cluster / this.windowClusters)] = 1;
  }

  #count(cluster: number, times: number, use: ClusterUse): void {
    const at = cluster - this.start;
    const sum = (this.references[at] ?? 0) + times;
    this.references[at] = Math.min(sum, this.#maxRefcount);
    this.uses[at] = (this.uses[at] ?? 0) | use;
    if (sum > this.#maxRefcount) this.#tellOverflow(cluster, sum);
  }

  #tellOverflow(cluster: number, sum: number): void {
    const max = this.#maxRefcount;
    this.#image.log.add('refcount-overflow', cluster * this.#image.clusterBytes, sum - max, () => {
      return `the cluster has ${sum} references, but refcounts of this image end at ${max}`;
    });
  }
}

/** `an L1 table and guest data`, if there is more than one use. */
export function overlapOf(uses: number): string | undefined {
  if ((uses & (uses - 1)) === 0) return undefined;
  return Object.values(CLUSTER_USES)
    .filter((use) => (uses & use) !== 0)
    .map((use) => USE_NAMES[use])
    .join(' and ');
}
