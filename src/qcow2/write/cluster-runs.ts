/** Tells cluster by cluster what a file must hold to show a disk, as far as extents alone say it. */

import { type Disk, isSparse } from '../../disk/disk.ts';
import { ExtentCursor } from './extent-cursor.ts';

/**
 * What is to be done for clusters:
 * - `nothing`: what is below shows the same
 * - `zeros`: the disk has zeros where something is below
 * - `data`: the disk may have bytes where zeros are below
 * - `compare`: both have bytes that may be the same
 */
export type Task = 'nothing' | 'zeros' | 'data' | 'compare';

/** Each cluster of zeros has an entry that is to be written: with no limit, that may be gigabytes of tables at once. */
const MAX_ZEROS_BYTES = 2 ** 32;

/** Clusters with one task; the last one may be cut by the end of the disk. Filled in by `ClusterRuns.next`. */
export interface ClusterRun {
  task: Task;
  lengthBytes: number;
}

export class ClusterRuns {
  readonly #sizeBytes: number;
  readonly #clusterBytes: number;
  readonly #maxReadBytes: number;
  readonly #view: ExtentCursor;
  readonly #below: ExtentCursor;
  readonly #hasBelow: boolean;
  readonly #part: ClusterRun = { task: 'nothing', lengthBytes: 0 };

  /**
   * `below` is a state of the same image and stands on the same backing disk as `view`; undefined for one that is all zeros.
   * A run that has to be read is `maxReadBytes` long at most, a multiple of `clusterBytes`.
   */
  constructor(view: Disk, below: Disk | undefined, clusterBytes: number, maxReadBytes: number) {
    this.#sizeBytes = view.sizeBytes;
    this.#clusterBytes = clusterBytes;
    this.#maxReadBytes = maxReadBytes;
    this.#view = new ExtentCursor(view);
    this.#below = new ExtentCursor(below);
    this.#hasBelow = below !== undefined;
  }

  /**
   * Describes the clusters from `offset` on, which is where one begins, below the end of the disk.
   * @throws Qcow2fsError as `Disk.extentAt`.
   */
  next(offset: number, into: ClusterRun): void {
    this.#lookAtClusters(offset, into);
    if (into.task === 'zeros') into.lengthBytes = Math.min(into.lengthBytes, MAX_ZEROS_BYTES);
    if (into.task === 'nothing' || into.task === 'zeros') return;
    const part = this.#part;
    // Small extents are read together.
    while (into.lengthBytes < this.#maxReadBytes && offset + into.lengthBytes < this.#sizeBytes) {
      this.#lookAtClusters(offset + into.lengthBytes, part);
      if (part.task !== into.task) return;
      into.lengthBytes += part.lengthBytes;
    }
    into.lengthBytes = Math.min(into.lengthBytes, this.#maxReadBytes);
  }

  /** One cluster or more. */
  #lookAtClusters(offset: number, into: ClusterRun): void {
    this.#lookAt(offset, into);
    const end = offset + into.lengthBytes;
    if (end === this.#sizeBytes) return;
    if (into.lengthBytes >= this.#clusterBytes) {
      into.lengthBytes -= into.lengthBytes % this.#clusterBytes;
      return;
    }
    this.#lookThroughCluster(offset, end, into);
  }

  /** A cluster of several extents, of which the one in `into` ends at `at`. */
  #lookThroughCluster(offset: number, at: number, into: ClusterRun): void {
    const { task } = into;
    const end = Math.min(offset + this.#clusterBytes, this.#sizeBytes);
    let isMixed = false;
    for (let next = at; next < end; next += into.lengthBytes) {
      this.#lookAt(next, into);
      isMixed ||= into.task !== task;
    }
    into.task = !isMixed ? task : this.#hasBelow ? 'compare' : 'data';
    into.lengthBytes = end - offset;
  }

  /** What both disks have at `offset`, as far as neither has something else. */
  #lookAt(offset: number, into: ClusterRun): void {
    this.#view.moveTo(offset);
    this.#below.moveTo(offset);
    into.task = taskOf(this.#view, this.#below);
    into.lengthBytes = Math.min(this.#view.end, this.#below.end, this.#sizeBytes) - offset;
  }
}

function taskOf(view: ExtentCursor, below: ExtentCursor): Task {
  if (isSparse(view.kind)) return isSparse(below.kind) ? 'nothing' : 'zeros';
  if (isSparse(below.kind)) return 'data';
  return isStoredOnce(view, below) ? 'nothing' : 'compare';
}

/** True if both come from the same bytes: of the image itself, or of its backing file, which is the same for all its states. */
function isStoredOnce(view: ExtentCursor, below: ExtentCursor): boolean {
  if (view.kind !== below.kind || view.kind === 'damaged' || view.depth !== below.depth) return false;
  return view.depth > 0 || (view.hostOffset >= 0 && view.hostOffset === below.hostOffset);
}
