/** Inode numbers of 32 bits, which is what the package passes on, for node ids of up to 53 bits. */

import type { NodeId } from '../filesystem/file-system.ts';

/** Nodes below this have their id as their number. */
const FIRST_GIVEN_NUMBER = 0x8000_0000;
/** The one above it stands for "unknown" in libfuse (FUSE_UNKNOWN_INO in lib/fuse.c). */
const LAST_GIVEN_NUMBER = 0xffff_fffe;

/** Fewer numbers than this are not worth a sweep. */
const LEAST_SWEPT_COUNT = 4096;

export interface InodeNumberOptions {
  /** False for a node that is gone: it never comes back, as a node id is never used again. */
  readonly isKnown: (node: NodeId) => boolean;
  readonly firstGiven?: number;
  readonly lastGiven?: number;
  readonly leastSweptCount?: number;
}

/**
 * Gives each node a number that it keeps, and that no other node gets: its id if that is small, or else the next of a range
 * of 2^31, so that both kinds can never meet. The range begins again at its end, with what is free: only after that many
 * nodes could somebody see the number of one that is gone again.
 *
 * Nodes that are gone are forgotten when twice as many have a number as after the last sweep, which keeps memory in
 * proportion to the nodes that exist, and time to the nodes that are looked at.
 */
export class InodeNumbers {
  readonly #isKnown: (node: NodeId) => boolean;
  readonly #firstGiven: number;
  readonly #lastGiven: number;
  readonly #leastSweptCount: number;
  readonly #numbers = new Map<NodeId, number>();
  readonly #taken = new Set<number>();
  #next: number;
  #sweepAt: number;

  constructor(options: InodeNumberOptions) {
    this.#isKnown = options.isKnown;
    this.#firstGiven = options.firstGiven ?? FIRST_GIVEN_NUMBER;
    this.#lastGiven = options.lastGiven ?? LAST_GIVEN_NUMBER;
    this.#leastSweptCount = options.leastSweptCount ?? LEAST_SWEPT_COUNT;
    this.#next = this.#firstGiven;
    this.#sweepAt = this.#leastSweptCount;
  }

  of(node: NodeId): number {
    if (node < this.#firstGiven) return node;
    const known = this.#numbers.get(node);
    if (known !== undefined) return known;
    if (this.#numbers.size >= this.#sweepAt) this.#sweep();
    const number = this.#take();
    this.#numbers.set(node, number);
    return number;
  }

  /** How many nodes are remembered. */
  get count(): number {
    return this.#numbers.size;
  }

  /** A file system has far fewer than 2^31 nodes, so there is a free one. */
  #take(): number {
    while (this.#taken.has(this.#next)) this.#next = this.#after(this.#next);
    const number = this.#next;
    this.#taken.add(number);
    this.#next = this.#after(number);
    return number;
  }

  #after(number: number): number {
    return number === this.#lastGiven ? this.#firstGiven : number + 1;
  }

  #sweep(): void {
    for (const [node, number] of this.#numbers) {
      if (this.#isKnown(node)) continue;
      this.#numbers.delete(node);
      this.#taken.delete(number);
    }
    this.#sweepAt = Math.max(this.#leastSweptCount, 2 * this.#numbers.size);
  }
}
