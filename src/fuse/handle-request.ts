/** The protocol without a mount: bytes of a request in, bytes of a reply out. */

import { createLogger, warn } from '../common/logging.ts';
import { messageOf, Qcow2fsError } from '../errors.ts';
import { ERRNO, toErrno } from '../filesystem/errno.ts';
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

const log = createLogger('fuse');

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
    report(error, operation, exchange.node);
    const errno = toErrno(error);
    // A name that does not exist is not thrown, so this is a node that the kernel still knows and the file system does
    // not. ESTALE makes the kernel look its path up again (retry_estale in fs/namei.c).
    return errno === ERRNO.ENOENT ? -ERRNO.ESTALE : -errno;
  }
}

/**
 * What a reader sees is only an errno, so the reason has to be in the log; once, since a reader may try again and again.
 */
const warned = new Set<string>();
const MAX_WARNING_COUNT = 100;

function report(error: unknown, operation: Operation, node: number): void {
  log('%s of node %d failed: %O', operation.name, node, error);
  if (error instanceof Qcow2fsError && error.code === 'NOT_FOUND') return;
  const isBug = !(error instanceof Qcow2fsError) || error.code === 'INTERNAL';
  const message = isBug ? `${operation.name} failed unexpectedly: ${messageOf(error)}` : messageOf(error);
  if (warned.has(message) || warned.size >= MAX_WARNING_COUNT) return;
  warned.add(message);
  warn(message);
}
