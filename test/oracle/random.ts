/** Random numbers from a seed: the same seed gives the same image, on every machine. */

import { createCipheriv } from 'node:crypto';

const BLOCK_BYTES = 512;

export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** A number in [0, 1): mulberry32. */
  fraction(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  /** A whole number in [0, limit). */
  below(limit: number): number {
    return Math.floor(this.fraction() * limit);
  }

  chance(probability: number): boolean {
    return this.fraction() < probability;
  }

  pick<Item>(items: readonly Item[]): Item {
    const item = items[this.below(items.length)];
    if (item === undefined) throw new Error('nothing to pick from');
    return item;
  }

  /** A whole number in [1, limit], small ones as likely as large ones. */
  length(limit: number): number {
    return Math.min(limit, Math.ceil(limit ** this.fraction()));
  }

  /** Bytes of which about half are text that compresses well, a few are zeros, and the rest does not compress. */
  bytes(length: number): Buffer {
    const key = Buffer.alloc(16);
    for (let at = 0; at < key.length; at += 4) key.writeUInt32LE(this.below(2 ** 32), at);
    // A cipher over zeros is the fastest source of bytes that do not compress.
    const bytes = createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(length));
    for (let at = 0; at < length; at += BLOCK_BYTES) {
      const block = bytes.subarray(at, at + BLOCK_BYTES);
      const chance = this.fraction();
      if (chance < 0.5) block.fill(`block ${this.below(2 ** 32)} `);
      else if (chance < 0.6) block.fill(0);
    }
    return bytes;
  }
}

/** A seed for what `text` names; `base` changes all of them together. */
export function seedOf(text: string, base: number): number {
  let hash = 0x811c9dc5 ^ base;
  for (const byte of Buffer.from(text)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash;
}
