/**
 * A bounded cache of blocks of bytes that all threads of the process share, so that a block which is costly to make
 * (an inflated cluster) is made once, whichever threads read it.
 *
 * It is set-associative: a key belongs to one set of `WAY_COUNT` blocks, and each set has a lock of its own, held only
 * while the few words of its directory are looked at. The bytes of a block are read while it is pinned, without the lock.
 *
 * A thread that dies may leave a lock taken or a block half made. Nobody waits for either longer than `PATIENCE_MS`:
 * then the block is given up, and made anew in another one; without its lock, a set is not used by that thread again. The
 * cache only gets a little smaller.
 */

const WAY_COUNT = 8;
const PATIENCE_MS = 1000;

/** Words of a block's directory entry. The key is kept as a double, in words that only the lock's holder touches. */
const STATE = 0;
const PIN_COUNT = 1;
const LAST_USE = 2;
const TAG = 3;
const EPOCH = 4;
const ENTRY_WORDS = 5;

const EMPTY = 0;
const FILLING = 1;
const READY = 2;
/** Given up by those who waited for it. Its thread may only be slow and write to it yet: it is not used until that is done. */
const LOST = 3;

/** Plain data: can be sent to worker threads. */
export interface SharedBlockMemory {
  readonly blockBytes: number;
  readonly setCount: number;
  readonly locks: SharedArrayBuffer;
  readonly entries: SharedArrayBuffer;
  readonly keys: SharedArrayBuffer;
  readonly blocks: SharedArrayBuffer;
}

/** Memory for blocks of `blockBytes` bytes, about `capacityBytes` in all. The kernel backs it only as it is used. */
export function createSharedBlockMemory(blockBytes: number, capacityBytes: number): SharedBlockMemory {
  const setCount = Math.max(1, Math.floor(capacityBytes / blockBytes / WAY_COUNT));
  const count = setCount * WAY_COUNT;
  return {
    blockBytes,
    setCount,
    locks: new SharedArrayBuffer(setCount * 4),
    entries: new SharedArrayBuffer(count * ENTRY_WORDS * 4),
    keys: new SharedArrayBuffer(count * 8),
    blocks: new SharedArrayBuffer(count * blockBytes),
  };
}

export class SharedBlockCache {
  readonly #memory: SharedBlockMemory;
  readonly #locks: Int32Array;
  readonly #entries: Int32Array;
  readonly #keys: Float64Array;
  readonly #bytes: Buffer;
  readonly #epoch: number;
  /** Sets whose lock a dead thread holds. */
  readonly #brokenSets = new Set<number>();

  /** Blocks of other epochs (integers of 32 bits) are not seen, and give way. */
  constructor(memory: SharedBlockMemory, epoch = 0) {
    this.#memory = memory;
    this.#epoch = epoch;
    this.#locks = new Int32Array(memory.locks);
    this.#entries = new Int32Array(memory.entries);
    this.#keys = new Float64Array(memory.keys);
    this.#bytes = Buffer.from(memory.blocks);
  }

  /**
   * Copies `length` bytes from `offset` of the block (`key`, `tag`) to `target`. If the cache does not have the block,
   * `make` makes it (exactly `blockBytes` bytes); what it throws is passed on and nothing is kept.
   */
  read(
    key: number,
    tag: number,
    offset: number,
    length: number,
    target: Buffer,
    targetOffset: number,
    make: () => Buffer,
  ): void {
    const set = hash(key, tag) % this.#memory.setCount;
    for (;;) {
      if (!this.#lock(set)) break;
      const block = this.#find(set, key, tag);
      if (block < 0) {
        const victim = this.#claim(set, key, tag);
        this.#unlock(set);
        if (victim < 0) break;
        const bytes = this.#fill(victim, make);
        bytes.copy(target, targetOffset, offset, offset + length);
        return;
      }
      const state = this.#word(block, STATE);
      if (state === READY) {
        Atomics.add(this.#entries, block * ENTRY_WORDS + PIN_COUNT, 1);
        this.#touch(block);
        this.#unlock(set);
        const start = block * this.#memory.blockBytes + offset;
        this.#bytes.copy(target, targetOffset, start, start + length);
        Atomics.sub(this.#entries, block * ENTRY_WORDS + PIN_COUNT, 1);
        return;
      }
      this.#unlock(set);
      this.#awaitFilled(block * ENTRY_WORDS + STATE);
    }
    make().copy(target, targetOffset, offset, offset + length);
  }

  /** Makes the bytes of a claimed block; other threads that want it wait meanwhile. */
  #fill(block: number, make: () => Buffer): Buffer {
    const stateIndex = block * ENTRY_WORDS + STATE;
    let state = EMPTY;
    try {
      const bytes = make();
      bytes.copy(this.#bytes, block * this.#memory.blockBytes);
      state = READY;
      return bytes;
    } finally {
      if (Atomics.compareExchange(this.#entries, stateIndex, FILLING, state) === LOST) {
        Atomics.store(this.#entries, stateIndex, EMPTY);
      }
      Atomics.notify(this.#entries, stateIndex);
    }
  }

  #awaitFilled(stateIndex: number): void {
    if (Atomics.wait(this.#entries, stateIndex, FILLING, PATIENCE_MS) !== 'timed-out') return;
    Atomics.compareExchange(this.#entries, stateIndex, FILLING, LOST);
    Atomics.notify(this.#entries, stateIndex);
  }

  #find(set: number, key: number, tag: number): number {
    for (let block = set * WAY_COUNT; block < (set + 1) * WAY_COUNT; block++) {
      if (this.#keys[block] !== key || this.#word(block, TAG) !== tag || this.#word(block, EPOCH) !== this.#epoch)
        continue;
      const state = this.#word(block, STATE);
      if (state === FILLING || state === READY) return block;
    }
    return -1;
  }

  /** Takes an empty or the least recently used block of the set that nobody reads or fills; -1 if there is none. */
  #claim(set: number, key: number, tag: number): number {
    let victim = -1;
    let oldest = Number.POSITIVE_INFINITY;
    for (let block = set * WAY_COUNT; block < (set + 1) * WAY_COUNT; block++) {
      const state = this.#word(block, STATE);
      if (state === FILLING || state === LOST || this.#word(block, PIN_COUNT) !== 0) continue;
      const age = state === EMPTY ? -1 : this.#word(block, LAST_USE);
      if (age >= oldest) continue;
      victim = block;
      oldest = age;
    }
    if (victim < 0) return -1;
    Atomics.store(this.#entries, victim * ENTRY_WORDS + STATE, FILLING);
    this.#keys[victim] = key;
    Atomics.store(this.#entries, victim * ENTRY_WORDS + TAG, tag);
    Atomics.store(this.#entries, victim * ENTRY_WORDS + EPOCH, this.#epoch);
    this.#touch(victim);
    return victim;
  }

  /** Uses of a set are counted in its lock word, above the lock bit. */
  #touch(block: number): void {
    const set = Math.floor(block / WAY_COUNT);
    const use = Atomics.add(this.#locks, set, 2) >>> 1;
    Atomics.store(this.#entries, block * ENTRY_WORDS + LAST_USE, use);
  }

  #word(block: number, word: number): number {
    return Atomics.load(this.#entries, block * ENTRY_WORDS + word);
  }

  /** Takes the lock (bit 0 of the set's word); false if its holder does not give it back. */
  #lock(set: number): boolean {
    while (!this.#brokenSets.has(set)) {
      const before = Atomics.or(this.#locks, set, 1);
      if ((before & 1) === 0) return true;
      if (Atomics.wait(this.#locks, set, before, PATIENCE_MS) === 'timed-out') this.#brokenSets.add(set);
    }
    return false;
  }

  #unlock(set: number): void {
    Atomics.and(this.#locks, set, ~1);
    Atomics.notify(this.#locks, set, 1);
  }
}

/** Spreads keys that are multiples of powers of two. */
function hash(key: number, tag: number): number {
  const mixed = Math.imul(Math.floor(key / 0x1_0000_0000) ^ tag, 0x85ebca6b) ^ Math.imul(key >>> 0, 0x9e3779b1);
  return (mixed ^ (mixed >>> 15)) >>> 0;
}
