/**
 * Checks that an image is consistent: what its tables refer to, against the refcounts that it stores. Nothing is ever
 * repaired. What counts as a corruption, and how often, follows QEMU 7.2 (qcow2_check_refcounts).
 */

import type { Qcow2File } from '../open-qcow2.ts';
import { CRYPT_METHOD_OFFSET } from '../wire/header.ts';
import { type CheckedImage, toCheckedImage } from './checked-image.ts';
import { compareRefcounts, countRefcountBlocks } from './compare-refcounts.ts';
import { countFixedMetadata, findFixedMetadata } from './fixed-metadata.ts';
import { type AllocationCounts, L2Walk } from './l2-walk.ts';
import type { Problem, ProblemKind } from './problem-log.ts';
import { ReferenceWindow, WINDOW_CLUSTERS } from './reference-window.ts';
import { StoredRefcounts } from './stored-refcounts.ts';
import { TableWalk } from './table-walk.ts';

export interface CheckResult extends AllocationCounts {
  readonly corruptionCount: number;
  readonly leakedClusterCount: number;
  /** What could not be checked; the other counts are incomplete if it is not 0. */
  readonly uncheckedCount: number;
  readonly countsByKind: Readonly<Partial<Record<ProblemKind, number>>>;
  /** The first few problems of each kind. */
  readonly firstProblems: readonly Problem[];
  /** Clusters of the virtual disk. */
  readonly totalClusters: number;
  /** The end of the last cluster in use: the file could end there. */
  readonly imageEndBytes: number;
}

export interface CheckOptions {
  /** Called often, with a number that grows from 0 to 1. */
  readonly onProgress?: (fraction: number) => void;
  /** Bounds the memory; a multiple of 8. */
  readonly windowClusters?: number;
  /** What the file takes on its disk, which bounds the work; its size if that is not known. */
  readonly storedBytes?: number;
}

/** For a cluster of a window: to load and compare its refcounts. For a refcount block: to look at its entry. */
const UNITS_PER_CLUSTER = 16;
const UNITS_PER_BLOCK = 8;

/**
 * Checks the image without its backing files, its data file or a key.
 * @throws Qcow2fsError IO, UNSUPPORTED or DAMAGED if it cannot be checked.
 */
export function checkQcow2(file: Qcow2File, options: CheckOptions = {}): CheckResult {
  const image = toCheckedImage(file, options.storedBytes ?? file.storage.sizeBytes);
  tellHeaderProblems(image);
  const metadata = findFixedMetadata(image);
  const stored = new StoredRefcounts(image);
  const window = new ReferenceWindow(image, options.windowClusters ?? WINDOW_CLUSTERS);
  const l2Walk = new L2Walk(image, window, stored);
  const walk = new TableWalk(image, metadata.l1Tables, window, stored, l2Walk);
  const passCount = window.touched.length;
  let highest = 0;
  for (let pass = 0; pass < passCount; pass++) {
    if (pass > 0 && window.touched[pass] !== 1) continue;
    if (!image.budget.spend(window.references.length * UNITS_PER_CLUSTER + stored.blockCount * UNITS_PER_BLOCK)) {
      tellUncompared(image, pass * window.windowClusters);
      break;
    }
    window.moveTo(pass, stored);
    if (pass === 0) touchStored(image, stored, window);
    countFixedMetadata(image, metadata, window);
    walk.countReferences((fraction) => options.onProgress?.((pass + fraction) / passCount));
    countRefcountBlocks(image, stored, window);
    if (image.budget.isSpent) {
      tellUncompared(image, window.start);
      break;
    }
    highest = Math.max(highest, compareRefcounts(image, window));
  }
  return toResult(image, l2Walk.counts, highest);
}

function tellHeaderProblems({ file, log }: CheckedImage): void {
  for (const { offset, message } of file.problems) log.add('header', offset, 1, () => message);
  const { encryption } = file;
  if (encryption?.format !== 'unknown') return;
  // No damage, perhaps: but such an encryption may have clusters of its own.
  log.add('unchecked', CRYPT_METHOD_OFFSET, 1, () => {
    return `header field crypt_method is ${encryption.cryptMethod}, which is not known: clusters that only it uses count as leaks`;
  });
}

/** Windows with refcounts are looked at even if nothing refers to them: there may be leaks. */
function touchStored({ clusterCount }: CheckedImage, stored: StoredRefcounts, window: ReferenceWindow): void {
  const { windowClusters, touched } = window;
  stored.forEachBlock((index) => {
    const first = index * stored.clustersPerBlock;
    if (first >= clusterCount) return;
    const last = Math.min(clusterCount, first + stored.clustersPerBlock) - 1;
    touched.fill(1, Math.floor(first / windowClusters), Math.floor(last / windowClusters) + 1);
  });
}

/** Counts of references that are not whole say nothing: what was not looked at counts as unchecked. */
function tellUncompared({ clusterBytes, clusterCount, log }: CheckedImage, first: number): void {
  const count = Math.max(1, clusterCount - first);
  log.add('unchecked', first * clusterBytes, count, () => {
    return `the tables are more work than those of an image of its size: the refcounts of ${count} clusters were not compared`;
  });
}

function toResult({ file, log, clusterBytes }: CheckedImage, counts: AllocationCounts, highest: number): CheckResult {
  return {
    ...counts,
    corruptionCount: log.corruptionCount,
    leakedClusterCount: log.leakedClusterCount,
    uncheckedCount: log.uncheckedCount,
    countsByKind: log.countsByKind,
    firstProblems: log.firstProblems,
    totalClusters: Math.ceil(file.sizeBytes / clusterBytes),
    imageEndBytes: (highest + 1) * clusterBytes,
  };
}
