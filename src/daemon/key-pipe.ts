/**
 * How keys get from the starting process to the daemon: through a pipe on descriptor 4, as other users can see the arguments
 * and root the environment of a process for as long as it lives.
 *
 * One line of JSON says which keys follow; their bytes come behind it, so that no key is ever in a string, which could not
 * be overwritten.
 */

import fs from 'node:fs';
import type { Writable } from 'node:stream';
import { Qcow2fsError } from '../errors.ts';
import { forgetLayerKeys, type LayerKey } from '../open-image/layer-key.ts';

/** The descriptor of the pipe in the daemon. */
export const KEYS_FD = 4;

/** A key and what is said about it: its identity is a sha256, and 64 bytes are the longest key. */
const MAX_KEY_MESSAGE_BYTES = 256;
const MAX_KEY_COUNT = 4096;

interface KeyAnnouncement {
  readonly image: number;
  readonly depth: number;
  readonly identity: string;
  readonly byteCount: number;
}

/** Starter: sends the keys and overwrites them. */
export function sendKeys(pipe: Writable, keys: readonly LayerKey[]): void {
  const message = encodeKeys(keys);
  forgetLayerKeys(keys);
  // A daemon that ended already has told why, or its end will.
  pipe.on('error', () => {});
  pipe.end(message, () => message.fill(0));
}

/** Daemon: waits for the keys; its pipe is closed afterwards. */
export function receiveKeys(): LayerKey[] {
  const message = Buffer.alloc(MAX_KEY_MESSAGE_BYTES * MAX_KEY_COUNT);
  try {
    return decodeKeys(message.subarray(0, readToEnd(message)));
  } finally {
    message.fill(0);
    fs.closeSync(KEYS_FD);
  }
}

export function encodeKeys(keys: readonly LayerKey[]): Buffer {
  const announcements: KeyAnnouncement[] = keys.map(({ image, depth, identity, key }) => ({
    image,
    depth,
    identity,
    byteCount: key.length,
  }));
  return Buffer.concat([Buffer.from(`${JSON.stringify(announcements)}\n`), ...keys.map(({ key }) => key)]);
}

/** @throws Qcow2fsError INTERNAL if it is not all of a message: the starter has ended meanwhile. */
export function decodeKeys(message: Buffer): LayerKey[] {
  const end = message.indexOf('\n');
  if (end < 0) throw new Qcow2fsError('INTERNAL', 'the keys of the image did not arrive');
  const announcements = JSON.parse(message.toString('utf8', 0, end)) as KeyAnnouncement[];
  const byteCounts = announcements.map(({ byteCount }) => byteCount);
  if (byteCounts.reduce((sum, count) => sum + count, end + 1) > message.length) {
    throw new Qcow2fsError('INTERNAL', 'the keys of the image did not arrive whole');
  }
  let offset = end + 1;
  return announcements.map(({ image, depth, identity, byteCount }) => {
    const key = Buffer.alloc(byteCount);
    message.copy(key, 0, offset, offset + byteCount);
    offset += byteCount;
    return { image, depth, identity, key };
  });
}

function readToEnd(target: Buffer): number {
  let length = 0;
  while (length < target.length) {
    const count = fs.readSync(KEYS_FD, target, length, target.length - length, null);
    if (count === 0) break;
    length += count;
  }
  return length;
}
