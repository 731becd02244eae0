/** The protocol without a mount: bytes of a request in, bytes of a reply out. */

import { ERRNO, toErrno } from '../filesystem/errno.ts';
import { logFailure } from '../filesystem/failure-log.ts';
import type { Exchange } from './exchange.ts';
import { type Operation, operationOf } from './operations.ts';
import {
  encodeOutHeader,
  IN_HEADER_BYTES,
  requestLength,
  requestNodeId,
  requestOpcode,
  requestUniqueHigh,
  requestUniqueLow,
} from './wire/headers.ts';

/**
 * Handles the request in the first `requestBytes` bytes of `exchange.request`. Returns the length of the reply in
 * `exchange.reply`, 0 if there is none. Never throws.
 */
export function handleRequest(exchange: Exchange, requestBytes: number): number {
  const { request } = exchange;
  // Nobody to answer to.
  if (requestBytes < IN_HEADER_BYTES) return 0;
  exchange.requestBytes = requestBytes;
  exchange.node = requestNodeId(request);
  const operation = operationOf(requestOpcode(request));
  if (operation === undefined) return replyWithError(exchange, ERRNO.ENOSYS);
  const result = isWhole(exchange, operation) ? run(exchange, operation) : -ERRNO.EINVAL;
  if (!operation.hasReply) return 0;
  if (result < 0) return replyWithError(exchange, -result);
  return encodeOutHeader(exchange.reply, result, 0, requestUniqueLow(request), requestUniqueHigh(request));
}

/** Makes the reply to the request in `exchange` an error. Returns its length. */
export function replyWithError(exchange: Exchange, errno: number): number {
  const { request, reply } = exchange;
  return encodeOutHeader(reply, 0, errno, requestUniqueLow(request), requestUniqueHigh(request));
}

function isWhole(exchange: Exchange, operation: Operation): boolean {
  const { request, requestBytes } = exchange;
  return requestLength(request) === requestBytes && requestBytes >= IN_HEADER_BYTES + operation.minimalBodyBytes;
}

/** One request that fails is one error for its caller: the worker goes on. */
function run(exchange: Exchange, operation: Operation): number {
  try {
    return operation.handle(exchange);
  } catch (error) {
    logFailure(error, operation.name, `node ${exchange.node}`);
    const errno = toErrno(error);
    // A name that does not exist is not thrown, so this is a node that the kernel still knows and the file system does
    // not. ESTALE makes the kernel look its path up again (retry_estale in fs/namei.c).
    return errno === ERRNO.ENOENT ? -ERRNO.ESTALE : -errno;
  }
}
