/** Requests about a node as such: its name, its attributes, where it points to. */

import { ERRNO } from '../../filesystem/errno.ts';
import type { Exchange } from '../exchange.ts';
import { BLOCK_BYTES, NAME_MAX_BYTES, VALID_MS } from '../limits.ts';
import { encodeAttrOut, encodeEntryOut, encodeNegativeEntryOut } from '../wire/attr.ts';
import { IN_HEADER_BYTES, OUT_HEADER_BYTES } from '../wire/headers.ts';
import { decodeName } from '../wire/name.ts';
import { encodeStatfsOut } from '../wire/statfs.ts';
import { encodeStatxOut } from '../wire/statx.ts';
import { toWireAttributes } from '../wire-attributes.ts';

export function lookup(exchange: Exchange): number {
  const { fileSystem, node, reply } = exchange;
  const name = decodeName(exchange.request, IN_HEADER_BYTES, exchange.requestBytes);
  if (name === undefined) return -ERRNO.EINVAL;
  if (fileSystem.attributes(node).kind !== 'directory') return -ERRNO.ENOTDIR;
  const found = find(exchange, name);
  if (found === undefined) return encodeNegativeEntryOut(reply, OUT_HEADER_BYTES, VALID_MS);
  return encodeEntryOut(reply, OUT_HEADER_BYTES, toWireAttributes(fileSystem.attributes(found)), VALID_MS);
}

export function getattr(exchange: Exchange): number {
  const attributes = toWireAttributes(exchange.fileSystem.attributes(exchange.node));
  return encodeAttrOut(exchange.reply, OUT_HEADER_BYTES, attributes, VALID_MS);
}

/** Asked by statx(2) for what GETATTR does not have: the birth time. */
export function statx(exchange: Exchange): number {
  const attributes = toWireAttributes(exchange.fileSystem.attributes(exchange.node));
  return encodeStatxOut(exchange.reply, OUT_HEADER_BYTES, attributes, VALID_MS);
}

export function readlink(exchange: Exchange): number {
  const { fileSystem, node } = exchange;
  if (fileSystem.attributes(node).kind !== 'symlink') return -ERRNO.EINVAL;
  return exchange.replyWith(fileSystem.readlink(node));
}

export function statfs(exchange: Exchange): number {
  const { totalBytes, nodeCount } = exchange.fileSystem.statistics();
  return encodeStatfsOut(exchange.reply, OUT_HEADER_BYTES, {
    blocks: Math.ceil(totalBytes / BLOCK_BYTES),
    files: nodeCount,
    blockBytes: BLOCK_BYTES,
    nameLength: NAME_MAX_BYTES,
  });
}

/** "." and ".." are asked for by an NFS server that rebuilds a path from a file handle (fs/fuse/inode.c). */
function find(exchange: Exchange, name: string): number | undefined {
  if (name === '.') return exchange.node;
  if (name === '..') return exchange.fileSystem.parent(exchange.node);
  return exchange.fileSystem.lookup(exchange.node, name);
}
