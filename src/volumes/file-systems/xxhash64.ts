/** XXH64 with seed 0 (the xxHash specification, doc/xxhash_spec.md), for short inputs: it computes with BigInt. */

const PRIME_1 = 0x9e3779b185ebca87n;
const PRIME_2 = 0xc2b2ae3d27d4eb4fn;
const PRIME_3 = 0x165667b19e3779f9n;
const PRIME_4 = 0x85ebca77c2b2ae63n;
const STRIPE_BYTES = 32;
const LANE_BYTES = 8;

/** The hash of bytes whose number is a positive multiple of 32, which spares the rules for the rest. */
export function xxhash64(bytes: Buffer): bigint {
  const lanes: [bigint, bigint, bigint, bigint] = [wrap(PRIME_1 + PRIME_2), PRIME_2, 0n, wrap(-PRIME_1)];
  for (let offset = 0; offset + STRIPE_BYTES <= bytes.length; offset += STRIPE_BYTES) {
    lanes.forEach((lane, index) => {
      lanes[index] = round(lane, bytes.readBigUInt64LE(offset + index * LANE_BYTES));
    });
  }
  const [a, b, c, d] = lanes;
  let hash = wrap(rotate(a, 1n) + rotate(b, 7n) + rotate(c, 12n) + rotate(d, 18n));
  for (const lane of lanes) hash = wrap((hash ^ round(0n, lane)) * PRIME_1 + PRIME_4);
  hash = wrap(hash + BigInt(bytes.length));
  hash = wrap((hash ^ (hash >> 33n)) * PRIME_2);
  hash = wrap((hash ^ (hash >> 29n)) * PRIME_3);
  return hash ^ (hash >> 32n);
}

function round(lane: bigint, input: bigint): bigint {
  return wrap(rotate(wrap(lane + input * PRIME_2), 31n) * PRIME_1);
}

function rotate(value: bigint, bits: bigint): bigint {
  return wrap(value << bits) | (value >> (64n - bits));
}

function wrap(value: bigint): bigint {
  return BigInt.asUintN(64, value);
}
