/** Compares the references of a window with the refcounts that are stored for it. */

import { REFCOUNT_UNKNOWN } from '../wire/refcount-entries.ts';
import type { CheckedImage } from './checked-image.ts';
import { CLUSTER_USES, overlapOf, type ReferenceWindow } from './reference-window.ts';
import type { StoredRefcounts } from './stored-refcounts.ts';

/**
 * Counts the refcount blocks. Comes last, as a block must not be referred to by anything else.
 * @throws Qcow2fsError IO.
 */
export function countRefcountBlocks(image: CheckedImage, stored: StoredRefcounts, window: ReferenceWindow): void {
  const { clusterBytes, clusterCount, file, log } = image;
  stored.forEachBlock((index, offset, hasReservedBits, entryOffset) => {
    const tell = (what: string) => log.add('refcount-block', entryOffset, 1, () => `refcount block ${index} ${what}`);
    const cluster = Math.floor(offset / clusterBytes);
    if (window.isFirstPass) {
      if (hasReservedBits) tell('has an entry with reserved bits set');
      else if (offset % clusterBytes !== 0) tell(`is at ${offset}, which is not cluster aligned`);
      else if (cluster >= clusterCount) {
        tell(`is at ${offset}, past the end of the file, which has ${file.storage.sizeBytes} bytes`);
      }
    }
    if (hasReservedBits || offset === 0 || offset % clusterBytes !== 0 || cluster >= clusterCount) return;
    window.add(offset, clusterBytes, 1, CLUSTER_USES.refcountBlock);
    if (window.has(cluster) && window.referencesTo(cluster) !== 1) tell(`at ${offset} is used by something else, too`);
  });
}

/** Returns the last cluster of the window that is in use by either count, or -1. */
export function compareRefcounts(image: CheckedImage, window: ReferenceWindow): number {
  let highest = -1;
  for (let cluster = window.start; cluster < window.end; cluster++) {
    const at = cluster - window.start;
    const references = window.references[at] ?? 0;
    const stored = window.stored[at] ?? 0;
    if (references === 0 && (stored === 0 || cluster >= image.clusterCount)) continue;
    if (stored === REFCOUNT_UNKNOWN) {
      tellUnknown(image, cluster);
      continue;
    }
    highest = cluster;
    if (stored !== references) tellMismatch(image, cluster, stored, references, overlapOf(window.uses[at] ?? 0));
    if (stored >= references) tellOverlap(image, cluster, overlapOf(window.uses[at] ?? 0));
  }
  return highest;
}

function tellUnknown({ clusterBytes, log }: CheckedImage, cluster: number): void {
  log.add('unchecked', cluster * clusterBytes, 1, () => 'the refcount cannot be read');
}

function tellMismatch(
  { clusterBytes, log }: CheckedImage,
  cluster: number,
  stored: number,
  references: number,
  overlap: string | undefined,
): void {
  log.add(stored > references ? 'leak' : 'refcount-too-low', cluster * clusterBytes, 1, () => {
    const uses = overlap === undefined ? '' : `: it is used for ${overlap}`;
    return `the refcount is ${stored}, but there are ${references} references${uses}`;
  });
}

/** Only an overlap that the refcount does not show: the others count as a refcount that is too low, as in QEMU. */
function tellOverlap({ clusterBytes, log }: CheckedImage, cluster: number, overlap: string | undefined): void {
  if (overlap === undefined) return;
  log.add('overlap', cluster * clusterBytes, 1, () => `the cluster is used for ${overlap}`);
}
