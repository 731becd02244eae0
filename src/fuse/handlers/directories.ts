/**
 * Requests about the contents of a directory. The cookie of an entry is its position: 0 is ".", 1 is "..", and the
 * entries of the file system follow in their order, which does not change.
 */

import { ERRNO } from '../../filesystem/errno.ts';
import type { DirectoryEntry } from '../../filesystem/file-system.ts';
import type { Exchange } from '../exchange.ts';
import { VALID_SECONDS } from '../limits.ts';
import { ENTRY_OUT_BYTES, encodeEntryOut } from '../wire/attr.ts';
import { direntBytes, encodeDirent } from '../wire/dirent.ts';
import { OUT_HEADER_BYTES } from '../wire/headers.ts';
import { encodeOpenOut, FOPEN_CACHE_DIR, FOPEN_KEEP_CACHE, isOpenForWriting } from '../wire/open.ts';
import { readInOffset, readInSize } from '../wire/read.ts';
import { DIRENT_TYPE, toWireAttributes } from '../wire-attributes.ts';

const DOT_ENTRY_COUNT = 2;

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
  const first = readInOffset(exchange.request);
  let used = 0;
  for (let cookie = first; cookie < entries.length + DOT_ENTRY_COUNT; cookie++) {
    const entry = entryAt(exchange, entries, cookie);
    if (entry === undefined) break;
    const length = direntBytes(entry.name.length, isPlus);
    if (used + length > room) {
      // An empty reply means the end of the directory, so no room even for one entry has to be an error.
      return used === 0 ? -ERRNO.EINVAL : used;
    }
    const offset = OUT_HEADER_BYTES + used;
    if (isPlus) encodeEntry(exchange, entry, cookie, offset);
    const direntOffset = isPlus ? offset + ENTRY_OUT_BYTES : offset;
    encodeDirent(exchange.reply, direntOffset, entry.nodeId, cookie + 1, DIRENT_TYPE[entry.kind], entry.name);
    used += length;
  }
  return used;
}

function entryAt(exchange: Exchange, entries: readonly DirectoryEntry[], cookie: number): DirectoryEntry | undefined {
  if (cookie === 0) return { name: '.', nodeId: exchange.node, kind: 'directory' };
  if (cookie === 1) return { name: '..', nodeId: exchange.fileSystem.parent(exchange.node), kind: 'directory' };
  return entries[cookie - DOT_ENTRY_COUNT];
}

/**
 * A zero entry says nothing about the node, and the kernel then looks it up when it is used. "." and ".." must be that
 * way (fs/fuse/readdir.c, fuse_direntplus_link), and so is a node whose attributes fail: it must not hide the others.
 */
function encodeEntry(exchange: Exchange, entry: DirectoryEntry, cookie: number, offset: number): void {
  exchange.reply.fill(0, offset, offset + ENTRY_OUT_BYTES);
  if (cookie < DOT_ENTRY_COUNT) return;
  try {
    const attributes = toWireAttributes(exchange.fileSystem.attributes(entry.nodeId));
    encodeEntryOut(exchange.reply, offset, attributes, VALID_SECONDS);
  } catch {
    return;
  }
}
