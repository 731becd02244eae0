/** Gives the space of blocks that are no longer needed back, as far as the file system of the delta can. */

import { warn } from '../common/logging.ts';
import { HOLE_STATE } from './delta-memory.ts';
import { type HolePuncher, punchHole } from './punch-hole.ts';

/** Bits of the shared word. */
const IMPOSSIBLE = 1;
const WARNED = 2;

export class SpaceReturn {
  readonly #fd: number;
  readonly #name: string;
  readonly #control: Int32Array;
  readonly #punch: HolePuncher;

  /** @param punch for tests: the way to do it */
  constructor(file: { readonly fd: number; readonly name: string }, control: Int32Array, punch = punchHole) {
    this.#fd = file.fd;
    this.#name = file.name;
    this.#control = control;
    this.#punch = punch;
  }

  /**
   * Makes [`offset`, `offset` + `length`) of the file a hole if that can be done. No block in it may be in use. What it
   * reads as is not to be relied on; that it could not be done is said once, and only costs space.
   */
  giveBack(offset: number, length: number): void {
    if ((Atomics.load(this.#control, HOLE_STATE) & IMPOSSIBLE) !== 0) return;
    const result = this.#punch(this.#fd, offset, length);
    if (result.kind === 'punched') return;
    const before = Atomics.or(this.#control, HOLE_STATE, WARNED | (result.kind === 'unsupported' ? IMPOSSIBLE : 0));
    if ((before & WARNED) !== 0) return;
    warn(`${this.#name}: what is discarded still takes its space, no hole can be made in the file (${result.reason})`);
  }
}
