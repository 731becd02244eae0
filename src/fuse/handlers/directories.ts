/**
 * Requests about the contents of a directory. The kernel comes back with the cookie of the last entry that it took, and
 * others may have come or gone meanwhile: none of those that stayed may be told twice or left out. So entries come in the
 * order of their nodes, and a cookie says behind which node to go on.
 */

import { ERRNO } from '../../filesystem/errno.ts';
import type { DirectoryEntry } from '../../filesystem/file-system.ts';
import type { Exchange } from '../exchange.ts';
import { VALID_MS } from '../limits.ts';
import { ENTRY_OUT_BYTES, encodeEntryOut } from '../wire/attr.ts';
import { direntBytes, encodeDirent } from '../wire/dirent.ts';
import { OUT_HEADER_BYTES } from '../wire/headers.ts';
import { encodeOpenOut, FOPEN_CACHE_DIR, FOPEN_KEEP_CACHE, isOpenForWriting } from '../wire/open.ts';
import { readInOffset, readInSize } from '../wire/read.ts';
import { DIRENT_TYPE, toWireAttributes } from '../wire-attributes.ts';

/** Cookies before "." and behind "..". */
const START = 0;
const BEHIND_DOTS = 2;

export function opendir(exchange: Exchange): number {
  const { fileSystem, node } = exchange;
  if (fileSystem.attributes(node).kind !== 'directory') return -ERRNO.ENOTDIR;
  if (isOpenForWriting(exchange.request)) return -ERRNO.EROFS;
  return encodeOpenOut(exchange.reply, OUT_HEADER_BYTES, FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR);
}

export function readdir(exchange: Exchange): number {
  return list(exchange, false);
}

/** As READDIR, with what LOOKUP would say about each entry. */
export function readdirplus(exchange: Exchange): number {
  return list(exchange, true);
}

function list(exchange: Exchange, isPlus: boolean): number {
  const { fileSystem, node } = exchange;
  if (fileSystem.attributes(node).kind !== 'directory') return -ERRNO.ENOTDIR;
  const entries = fileSystem.entries(node);
  const room = Math.min(readInSize(exchange.request), exchange.capacityBytes);
  let cookie = readInOffset(exchange.request);
  let position = firstBehind(entries, cookie);
  let used = 0;
  for (;;) {
    const isDot = cookie < BEHIND_DOTS;
    const entry = isDot ? dotEntry(exchange, cookie) : entries[position];
    if (entry === undefined) break;
    const length = direntBytes(entry.name.length, isPlus);
    if (used + length > room) {
      // An empty reply means the end of the directory, so no room even for one entry has to be an error.
      return used === 0 ? -ERRNO.EINVAL : used;
    }
    cookie = isDot ? cookie + 1 : cookieBehind(entry);
    if (!isDot) position++;
    const offset = OUT_HEADER_BYTES + used;
    if (isPlus) encodeEntry(exchange, entry, isDot, offset);
    const direntOffset = isPlus ? offset + ENTRY_OUT_BYTES : offset;
    encodeDirent(exchange.reply, direntOffset, entry.nodeId, cookie, DIRENT_TYPE[entry.kind], entry.name);
    used += length;
  }
  return used;
}

function dotEntry({ fileSystem, node }: Exchange, cookie: number): DirectoryEntry {
  return cookie === START
    ? { name: '.', nodeId: node, kind: 'directory' }
    : { name: '..', nodeId: fileSystem.parent(node), kind: 'directory' };
}

/** No entry is the root, node 1: so these are above `BEHIND_DOTS`. */
function cookieBehind({ nodeId }: DirectoryEntry): number {
  return nodeId + 1;
}

/** The position of the first entry behind a cookie. */
function firstBehind(entries: readonly DirectoryEntry[], cookie: number): number {
  let [low, high] = [0, entries.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    const entry = entries[middle];
    if (entry !== undefined && cookieBehind(entry) <= cookie) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * A zero entry says nothing about the node, and the kernel then looks it up when it is used. "." and ".." must be that
 * way (fs/fuse/readdir.c, fuse_direntplus_link), and so is a node whose attributes fail: it must not hide the others.
 */
function encodeEntry(exchange: Exchange, entry: DirectoryEntry, isDot: boolean, offset: number): void {
  exchange.reply.fill(0, offset, offset + ENTRY_OUT_BYTES);
  if (isDot) return;
  try {
    const attributes = toWireAttributes(exchange.fileSystem.attributes(entry.nodeId));
    encodeEntryOut(exchange.reply, offset, attributes, VALID_MS);
  } catch {
    return;
  }
}
