/**
 * Who refers to the clusters of the file that hold compressed data. Several pieces of data share such a cluster, and it becomes free
 * with the last of them: what one guest cluster refers to says nothing about it.
 */

import type { WorkLimit } from '../work-limit.ts';

/** What is kept together: only parts of the file with compressed data take memory. */
const CHUNK_CLUSTERS = 256;
/** For each chunk: its memory. Entries of a crafted image may each need another one. */
const CHUNK_UNITS = CHUNK_CLUSTERS * 16;
const NOBODY = 0;
const SEVERAL = 0xffff_ffff;

interface Chunk {
  /** References of all states. */
  readonly counts: Uint32Array;
  /** The number of the only state that refers to it and 1, NOBODY or SEVERAL. */
  readonly owners: Uint32Array;
  /** References of states that are to be deleted. */
  readonly chosen: Uint32Array;
}

export class ClusterOwners {
  readonly #chunks = new Map<number, Chunk>();
  readonly #limit: WorkLimit;

  constructor(limit: WorkLimit) {
    this.#limit = limit;
  }

  /** `count` references, `chosenCount` of them of chosen states; `owner` is the only state that they are of, if there is one. @throws Qcow2fsError UNSUPPORTED as `WorkLimit.spend`. */
  add(cluster: number, count: number, chosenCount: number, owner: number | undefined): void {
    const key = Math.floor(cluster / CHUNK_CLUSTERS);
    let chunk = this.#chunks.get(key);
    if (chunk === undefined) {
      this.#limit.spend(CHUNK_UNITS);
      chunk = createChunk();
      this.#chunks.set(key, chunk);
    }
    const at = cluster - key * CHUNK_CLUSTERS;
    const { counts, owners, chosen } = chunk;
    const mark = owner === undefined ? SEVERAL : owner + 1;
    owners[at] = owners[at] === NOBODY || owners[at] === mark ? mark : SEVERAL;
    counts[at] = (counts[at] ?? 0) + count;
    chosen[at] = (chosen[at] ?? 0) + chosenCount;
  }

  /** Calls `visit` for each cluster. `owner`: the only state that refers to it. `isChosen`: none refers to it but chosen ones. */
  forEach(visit: (cluster: number, count: number, owner: number | undefined, isChosen: boolean) => void): void {
    for (const [key, { counts, owners, chosen }] of this.#chunks) {
      for (let at = 0; at < CHUNK_CLUSTERS; at++) {
        const count = counts[at] ?? 0;
        if (count === 0) continue;
        const mark = owners[at] ?? SEVERAL;
        visit(key * CHUNK_CLUSTERS + at, count, mark === SEVERAL ? undefined : mark - 1, chosen[at] === count);
      }
    }
  }
}

function createChunk(): Chunk {
  const create = () => new Uint32Array(CHUNK_CLUSTERS);
  return { counts: create(), owners: create(), chosen: create() };
}
