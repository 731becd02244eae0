/** What one worker does all its life: take a request, handle it, give the reply, until the mount ends. */

import { warn } from '../common/logging.ts';
import { ERRNO } from '../filesystem/errno.ts';
import { ABORTED, NOTHING, readDevice, UNMOUNTED, writeDevice } from './device.ts';
import type { Exchange } from './exchange.ts';
import { handleRequest, replyWithError } from './handle-request.ts';
import { operationOf } from './operations.ts';
import { requestOpcode, requestUniqueHigh, requestUniqueLow } from './wire/headers.ts';
import type { WorkerControl } from './worker-control.ts';

export type SessionEnd = 'unmounted' | 'aborted';

/** Calls from the loop to whoever started it. */
export interface SessionEvents {
  /** FUSE_INIT was answered: with `refused` the mount will never work. */
  onInitialized(outcome: 'accepted' | 'refused'): void;
  /** No worker is left for the next request. */
  onLastWorkerBusy(): void;
  /** The file system is not the newest: gives the exchange the newest. False if that could not be had; then nothing is read. */
  onOutdated(): boolean;
}

/** Serves one request after the other; the worker of the slot has entered its loop. */
export function runSessionLoop(
  fd: number,
  exchange: Exchange,
  control: WorkerControl,
  slot: number,
  events: SessionEvents,
): SessionEnd {
  const { request } = exchange;
  for (;;) {
    const requestBytes = readRequest(fd, request);
    if (requestBytes === UNMOUNTED) return 'unmounted';
    if (requestBytes === ABORTED) return 'aborted';
    const owesReply = operationOf(requestOpcode(request))?.hasReply !== false;
    const wasLast = control.markBusy(slot, owesReply, requestUniqueLow(request), requestUniqueHigh(request));
    if (wasLast) events.onLastWorkerBusy();
    const isNewest = !control.isOutdated(slot) || events.onOutdated();
    const replyBytes = isNewest ? handleRequest(exchange, requestBytes) : refuse(exchange, owesReply);
    control.markHandled(slot);
    if (replyBytes > 0) writeReply(fd, exchange, replyBytes);
    control.markReplied(slot);
    if (exchange.initialization !== 'none') {
      events.onInitialized(exchange.initialization);
      exchange.initialization = 'none';
    }
  }
}

function refuse(exchange: Exchange, owesReply: boolean): number {
  return owesReply ? replyWithError(exchange, ERRNO.EIO) : 0;
}

function readRequest(fd: number, request: Buffer): number {
  for (;;) {
    const requestBytes = readDevice(fd, request);
    if (requestBytes !== NOTHING) return requestBytes;
  }
}

function writeReply(fd: number, exchange: Exchange, replyBytes: number): void {
  if (writeDevice(fd, exchange.reply, replyBytes)) return;
  // The kernel may still wait for another one.
  warn(`the kernel refused the reply to a request with opcode ${requestOpcode(exchange.request)}`);
  writeDevice(fd, exchange.reply, replyWithError(exchange, ERRNO.EIO));
}
