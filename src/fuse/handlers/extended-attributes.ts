/** Extended attributes. Programs like `ls -l` also ask for security.* and system.posix_acl_*, which nobody has here. */

import { ERRNO } from '../../filesystem/errno.ts';
import type { Exchange } from '../exchange.ts';
import { IN_HEADER_BYTES, OUT_HEADER_BYTES } from '../wire/headers.ts';
import { decodeName } from '../wire/name.ts';
import { encodeGetxattrOut, GETXATTR_IN_BYTES, getxattrInSize } from '../wire/xattr.ts';

export function getxattr(exchange: Exchange): number {
  const name = decodeName(exchange.request, IN_HEADER_BYTES + GETXATTR_IN_BYTES, exchange.requestBytes);
  if (name === undefined) return -ERRNO.EINVAL;
  const value = exchange.fileSystem.xattr(exchange.node, name);
  if (value === undefined) return -ERRNO.ENODATA;
  return replyWithValue(exchange, value);
}

export function listxattr(exchange: Exchange): number {
  const names = exchange.fileSystem.xattrNames(exchange.node);
  const list = names.map((name) => `${name}\0`).join('');
  return replyWithValue(exchange, Buffer.from(list, 'latin1'));
}

/** getxattr(2): size 0 asks for the length; a value that does not fit is ERANGE. */
function replyWithValue(exchange: Exchange, value: Buffer): number {
  const room = getxattrInSize(exchange.request);
  if (room === 0) return encodeGetxattrOut(exchange.reply, OUT_HEADER_BYTES, value.length);
  if (value.length > room) return -ERRNO.ERANGE;
  return exchange.replyWith(value);
}
