/** FUSE_INIT: the first request on a mount. */

import { createLogger, warn } from '../../common/logging.ts';
import type { Exchange } from '../exchange.ts';
import { MAX_PAGES, MAX_WRITE_BYTES } from '../limits.ts';
import { OUT_HEADER_BYTES } from '../wire/headers.ts';
import {
  decodeInitIn,
  encodeInitOut,
  FUSE_ABORT_ERROR,
  FUSE_ASYNC_DIO,
  FUSE_ASYNC_READ,
  FUSE_BIG_WRITES,
  FUSE_CACHE_SYMLINKS,
  FUSE_DIRECT_IO_ALLOW_MMAP,
  FUSE_DO_READDIRPLUS,
  FUSE_INIT_EXT,
  FUSE_KERNEL_VERSION,
  FUSE_MAX_PAGES,
  FUSE_PARALLEL_DIROPS,
  FUSE_READDIRPLUS_AUTO,
} from '../wire/init.ts';

const log = createLogger('fuse');

/** EPROTO of include/uapi/asm-generic/errno.h: only this negotiation knows it. */
const EPROTO = 71;

/** The newest minor version whose structs are the ones in `wire/`. */
const NEWEST_MINOR = 45;
/** 7.23 (Linux 3.15) is the first that takes an INIT reply of 64 bytes. */
const OLDEST_MINOR = 23;

/**
 * FUSE_AUTO_INVAL_DATA is left out on purpose: it makes the kernel ask for attributes on reads, to notice changes that
 * never happen here. FUSE_ASYNC_DIO lets one O_DIRECT read run as several requests at once.
 */
const FLAGS =
  FUSE_ASYNC_READ |
  FUSE_ASYNC_DIO |
  FUSE_PARALLEL_DIROPS |
  FUSE_MAX_PAGES |
  FUSE_DO_READDIRPLUS |
  FUSE_READDIRPLUS_AUTO |
  FUSE_CACHE_SYMLINKS |
  // Tells an aborted connection (ECONNABORTED) from an unmounted one (ENODEV) in the session loop.
  FUSE_ABORT_ERROR |
  FUSE_INIT_EXT;

/** Writes of more than a page. */
const WRITABLE_FLAGS = FUSE_BIG_WRITES;

/**
 * Readers of a file that bypasses the page cache may still map it. Not where it can be written: what is mapped would not see
 * what is written through other windows on the same bytes.
 */
const FLAGS2 = { readOnly: FUSE_DIRECT_IO_ALLOW_MMAP, writable: 0 } as const;

/** Requests of read-ahead and AIO that the kernel has under way at once, and where it begins to call that congested. */
const MAX_BACKGROUND = 64;
const CONGESTION_THRESHOLD = 48;

export function initialize(exchange: Exchange): number {
  const offered = decodeInitIn(exchange.request, exchange.requestBytes);
  log(
    'kernel speaks %d.%d, flags 0x%s, flags2 0x%s',
    offered.major,
    offered.minor,
    offered.flags.toString(16),
    offered.flags2.toString(16),
  );
  // fuse.h, "Protocol changelog": a newer major gets our version as the answer and then asks again with that one.
  if (offered.major > FUSE_KERNEL_VERSION) return reply(exchange, 0, NEWEST_MINOR, 0, 0);
  if (offered.major < FUSE_KERNEL_VERSION || offered.minor < OLDEST_MINOR) {
    exchange.initialization = 'refused';
    warn(
      `this kernel speaks FUSE ${offered.major}.${offered.minor}, but ${FUSE_KERNEL_VERSION}.${OLDEST_MINOR} ` +
        `(Linux 3.15) is the oldest that works`,
    );
    return -EPROTO;
  }
  exchange.initialization = 'accepted';
  const minor = Math.min(offered.minor, NEWEST_MINOR);
  const flags = (exchange.options.isWritable ? FLAGS | WRITABLE_FLAGS : FLAGS) & offered.flags;
  return reply(exchange, offered.maxReadahead, minor, flags, FLAGS2[kindOf(exchange)] & offered.flags2);
}

/** `max_readahead` can only lower what the kernel offered, so the offer is given back. */
function reply(exchange: Exchange, maxReadahead: number, minor: number, flags: number, flags2: number): number {
  return encodeInitOut(exchange.reply, OUT_HEADER_BYTES, {
    major: FUSE_KERNEL_VERSION,
    minor,
    maxReadahead,
    flags,
    flags2,
    maxBackground: MAX_BACKGROUND,
    congestionThreshold: CONGESTION_THRESHOLD,
    maxWrite: MAX_WRITE_BYTES[kindOf(exchange)],
    // Timestamps are exact to one nanosecond.
    timeGran: 1,
    maxPages: MAX_PAGES,
  });
}

function kindOf({ options }: Exchange): 'readOnly' | 'writable' {
  return options.isWritable ? 'writable' : 'readOnly';
}
