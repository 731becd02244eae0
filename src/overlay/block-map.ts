/**
 * What the view has of each block: two bits in memory that all threads share. Only the holder of the write lock changes it;
 * everybody reads it without a lock, as both bits of a block are in one word.
 */

import {
  BLOCKS_PER_PAGE,
  BLOCKS_PER_WORD,
  type DeltaMemory,
  SEGMENT_WORD_BITS,
  WORDS_PER_PAGE,
} from './delta-memory.ts';

/** The view has the block of the disk below. */
export const BASE = 0;
/** PRESENT (bit 0): the block reads as zeros; its bytes in the file mean nothing. */
export const ZERO = 1;
/** PRESENT and DATA (bit 1): the block is in the file of the delta. */
export const DATA = 3;
export type BlockState = typeof BASE | typeof ZERO | typeof DATA;

/** The kind of a page whose blocks differ: they have their entries. Other pages have the state of all blocks as their kind. */
export const MIXED = 2;

/** What of a page is not in the file of a kept delta yet. */
export const DIRTY_WORDS = 1;
export const DIRTY_KIND = 2;

const PAGE_WORD_BITS = Math.log2(WORDS_PER_PAGE);
const SEGMENT_MASK = 2 ** SEGMENT_WORD_BITS - 1;
const STATE_MASK = 3;
/** The words of 16 blocks of a state. */
const WORD_OF_STATE = [0, 0x5555_5555, 0, -1] as const;

export class BlockMap {
  readonly pageCount: number;
  readonly #kinds: Uint8Array;
  readonly #dirty: Uint8Array;
  readonly #segments: readonly Int32Array[];

  constructor(memory: DeltaMemory) {
    this.#kinds = new Uint8Array(memory.kinds);
    this.#dirty = new Uint8Array(memory.dirty);
    this.#segments = memory.segments.map((segment) => new Int32Array(segment));
    this.pageCount = this.#kinds.length;
  }

  stateAt(block: number): BlockState {
    const page = Math.floor(block / BLOCKS_PER_PAGE);
    const kind = this.kindOf(page);
    if (kind !== MIXED) return kind as BlockState;
    const word = this.#load(Math.floor(block / BLOCKS_PER_WORD));
    return ((word >>> ((block % BLOCKS_PER_WORD) * 2)) & STATE_MASK) as BlockState;
  }

  /**
   * Where the blocks from `block` on, which is one of `state`, stop to be of that state, at most `limit`; above `block` in
   * any case, as another thread may just have changed it.
   */
  runEnd(block: number, limit: number, state: BlockState): number {
    const expected = WORD_OF_STATE[state];
    let at = block;
    while (at < limit) {
      const page = Math.floor(at / BLOCKS_PER_PAGE);
      const kind = this.kindOf(page);
      if (kind !== MIXED) {
        if (kind !== state) break;
        at = (page + 1) * BLOCKS_PER_PAGE;
        continue;
      }
      const place = at % BLOCKS_PER_WORD;
      const difference = (this.#load(Math.floor(at / BLOCKS_PER_WORD)) ^ expected) >>> (place * 2);
      if (difference !== 0) {
        at += trailingZeros(difference) >> 1;
        break;
      }
      at += BLOCKS_PER_WORD - place;
    }
    return Math.max(block + 1, Math.min(at, limit));
  }

  /** How many blocks of [`from`, `to`) are DATA; only exact for the holder of the lock. */
  countData(from: number, to: number): number {
    let count = 0;
    for (let at = from; at < to; ) {
      const state = this.stateAt(at);
      const end = this.runEnd(at, to, state);
      if (state === DATA) count += end - at;
      at = end;
    }
    return count;
  }

  /** Gives [`from`, `to`) a state. For the holder of the lock. */
  setRange(from: number, to: number, state: typeof ZERO | typeof DATA): void {
    for (let at = from; at < to; ) {
      const page = Math.floor(at / BLOCKS_PER_PAGE);
      const end = Math.min(to, (page + 1) * BLOCKS_PER_PAGE);
      if (state === ZERO && end - at === BLOCKS_PER_PAGE) this.#setKind(page, ZERO);
      else if (this.kindOf(page) !== state) this.#setInPage(page, at, end, state);
      at = end;
    }
  }

  /** The state of all blocks of a page, or MIXED. */
  kindOf(page: number): number {
    return Atomics.load(this.#kinds, page);
  }

  /** What of a page is dirty, which it is no more then. */
  takeDirty(page: number): number {
    return this.#dirty[page] === 0 ? 0 : Atomics.exchange(this.#dirty, page, 0);
  }

  addDirty(page: number, what: number): void {
    Atomics.or(this.#dirty, page, what);
  }

  /** The words of a page, as they are in memory: those of a page that is not MIXED mean nothing. */
  wordsOf(page: number): Int32Array {
    const start = (page << PAGE_WORD_BITS) & SEGMENT_MASK;
    const segment = this.#segments[page >>> (SEGMENT_WORD_BITS - PAGE_WORD_BITS)];
    if (segment === undefined) throw new RangeError(`page ${page} is past the end of the map`);
    return segment.subarray(start, start + WORDS_PER_PAGE);
  }

  /** Takes over the kind of a page that was read from a file; the words of a MIXED one are there already. */
  load(page: number, kind: number): void {
    Atomics.store(this.#kinds, page, kind);
  }

  #setKind(page: number, kind: number): void {
    if (this.kindOf(page) === kind) return;
    this.addDirty(page, DIRTY_KIND);
    Atomics.store(this.#kinds, page, kind);
  }

  #setInPage(page: number, from: number, to: number, state: BlockState): void {
    const kind = this.kindOf(page);
    const words = this.wordsOf(page);
    this.addDirty(page, DIRTY_WORDS);
    if (kind !== MIXED) {
      // Nobody looks at the words yet. Without its kind, the page has its old state.
      words.fill(WORD_OF_STATE[kind as BlockState]);
      this.addDirty(page, DIRTY_KIND);
    }
    setInWords(words, from % BLOCKS_PER_PAGE, ((to - 1) % BLOCKS_PER_PAGE) + 1, state);
    if (kind !== MIXED) Atomics.store(this.#kinds, page, MIXED);
  }

  #load(word: number): number {
    return Atomics.load(this.#segments[word >>> SEGMENT_WORD_BITS] as Int32Array, word & SEGMENT_MASK);
  }
}

/** Nobody else changes the words meanwhile, so that a store is as good as an atomic change of some bits. */
function setInWords(words: Int32Array, from: number, to: number, state: BlockState): void {
  for (let at = from; at < to; ) {
    const index = Math.floor(at / BLOCKS_PER_WORD);
    const place = at % BLOCKS_PER_WORD;
    const count = Math.min(BLOCKS_PER_WORD - place, to - at);
    const mask = (count === BLOCKS_PER_WORD ? -1 : 2 ** (count * 2) - 1) << (place * 2);
    Atomics.store(words, index, (Atomics.load(words, index) & ~mask) | (WORD_OF_STATE[state] & mask));
    at += count;
  }
}

function trailingZeros(word: number): number {
  return 31 - Math.clz32(word & -word);
}
