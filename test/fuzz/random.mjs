/** Numbers from a seed: xorshift128. The same seed gives the same mutations, on every machine. */

export class Random {
  #x;
  #y;
  #z;
  #w;

  /** Each `stream` of a seed is a sequence of its own, so that any case can be made without those before it. */
  constructor(seed, stream) {
    this.#x = mix(seed);
    this.#y = mix(this.#x ^ stream);
    this.#z = mix(this.#y);
    this.#w = mix(this.#z) | 1;
    for (let round = 0; round < 8; round++) this.u32();
  }

  u32() {
    const t = this.#x ^ (this.#x << 11);
    this.#x = this.#y;
    this.#y = this.#z;
    this.#z = this.#w;
    this.#w = this.#w ^ (this.#w >>> 19) ^ t ^ (t >>> 8);
    return this.#w >>> 0;
  }

  /** A whole number in [0, limit). */
  below(limit) {
    return Math.floor((this.u32() / 2 ** 32) * limit);
  }

  chance(probability) {
    return this.u32() < probability * 2 ** 32;
  }

  pick(items) {
    return items[this.below(items.length)];
  }
}

/** splitmix32 */
function mix(value) {
  let mixed = (value + 0x9e3779b9) >>> 0;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}
