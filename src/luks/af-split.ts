/** The anti-forensic splitter of LUKS1 ("LUKS On-Disk Format Specification", section "AF"): one key in many stripes. */

import { createHash } from 'node:crypto';
import type { Hash } from './hashes.ts';

/** Joins the stripes, each as long as the key, to the key. All must be exact: one wrong bit gives another key. */
export function mergeStripes(stripes: Buffer, keyBytes: number, hash: Hash): Buffer {
  const key = Buffer.alloc(keyBytes);
  const last = stripes.length - keyBytes;
  for (let offset = 0; offset < last; offset += keyBytes) {
    xorInto(key, stripes, offset);
    diffuse(key, hash);
  }
  xorInto(key, stripes, last);
  return key;
}

function xorInto(key: Buffer, stripes: Buffer, offset: number): void {
  for (let index = 0; index < key.length; index++) key[index] = (key[index] ?? 0) ^ (stripes[offset + index] ?? 0);
}

/** Replaces each piece of the length of a digest by the hash of its number (u32, big-endian) and itself, cut to its length. */
function diffuse(key: Buffer, { name, digestBytes }: Hash): void {
  const number = Buffer.alloc(4);
  for (let offset = 0, index = 0; offset < key.length; offset += digestBytes, index++) {
    number.writeUInt32BE(index);
    const piece = key.subarray(offset, offset + digestBytes);
    createHash(name).update(number).update(piece).digest().copy(piece, 0, 0, piece.length);
  }
}
