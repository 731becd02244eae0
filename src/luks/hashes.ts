/** The hashes that a LUKS header may name. */

import { getHashes } from 'node:crypto';
import { Qcow2fsError } from '../errors.ts';

/** Names as LUKS writes them, which are those of Node.js too, and the bytes of a digest. */
const DIGEST_BYTES: ReadonlyMap<string, number> = new Map([
  ['md5', 16],
  ['sha1', 20],
  ['ripemd160', 20],
  ['sha224', 28],
  ['sha256', 32],
  ['sha384', 48],
  ['sha512', 64],
]);

export interface Hash {
  readonly name: string;
  readonly digestBytes: number;
}

/** @throws Qcow2fsError UNSUPPORTED, naming the hash, also if this Node.js was built without it. */
export function requireHash(name: string): Hash {
  const digestBytes = DIGEST_BYTES.get(name);
  if (digestBytes !== undefined && getHashes().includes(name)) return { name, digestBytes };
  throw new Qcow2fsError('UNSUPPORTED', `the hash "${name}" is not supported`, { data: { hash: name } });
}
