/** One request and the room for its reply. A worker has one exchange and uses it again for every request. */

import { ERRNO } from '../filesystem/errno.ts';
import type { FileSystem } from '../filesystem/file-system.ts';
import { MAX_READ_BYTES, REQUEST_BUFFER_BYTES, WRITABLE_REQUEST_BUFFER_BYTES } from './limits.ts';
import { OUT_HEADER_BYTES } from './wire/headers.ts';

/** How files are served; plain data. */
export interface ServeOptions {
  /** Files bypass the page cache: every read comes here, with the size that its caller asked for. */
  readonly directIo: boolean;
  /** Files can be written. */
  readonly isWritable: boolean;
}

/**
 * What a handler returns: the length of the reply's body, 0 or more, or a negative errno. Negative results are for
 * answers that are part of normal life (a name that does not exist); failures are thrown.
 */
export type Handler = (exchange: Exchange) => number;

export class Exchange {
  /** Exchanged between requests when what it shows has changed. */
  fileSystem: FileSystem;
  readonly options: ServeOptions;
  readonly request: Buffer;
  readonly reply: Buffer;
  /** Length of the request that is in `request`. */
  requestBytes = 0;
  /** The node that the request is about. */
  node = 0;
  /** Waits until there is a newer file system, or for so long at most. False if none came. */
  renewFileSystem: (patienceMs: number) => boolean = () => false;
  /** What the last FUSE_INIT led to; the loop that owns the exchange looks at it and passes it on. */
  initialization: 'none' | 'accepted' | 'refused' = 'none';

  constructor(fileSystem: FileSystem, options: ServeOptions, replyBodyBytes = MAX_READ_BYTES) {
    this.fileSystem = fileSystem;
    this.options = options;
    this.request = Buffer.alloc(options.isWritable ? WRITABLE_REQUEST_BUFFER_BYTES : REQUEST_BUFFER_BYTES);
    this.reply = createReplyBuffer(replyBodyBytes);
  }

  /** Room for the body of a reply. */
  get capacityBytes(): number {
    return this.reply.length - OUT_HEADER_BYTES;
  }

  /** Copies the body of a reply; EIO if there is no room for it. */
  replyWith(bytes: Buffer): number {
    if (bytes.length > this.capacityBytes) return -ERRNO.EIO;
    return bytes.copy(this.reply, OUT_HEADER_BYTES);
  }
}

const PAGE_BYTES = 4096;

/**
 * The body of a reply begins at a page, and the header lies right before it: the kernel copies page by page
 * (fuse_copy_fill in fs/fuse/dev.c), and with bytes that lie otherwise each page takes it two steps. The memory of an
 * ArrayBuffer that can be resized begins at a page, as V8 reserves its address space; that of others does not.
 */
function createReplyBuffer(bodyBytes: number): Buffer {
  const length = PAGE_BYTES + bodyBytes;
  const memory = new ArrayBuffer(length, { maxByteLength: length });
  return Buffer.from(memory, PAGE_BYTES - OUT_HEADER_BYTES, OUT_HEADER_BYTES + bodyBytes);
}
