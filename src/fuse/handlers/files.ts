/** Requests about the contents of a file. */

import { Qcow2fsError } from '../../errors.ts';
import { ERRNO } from '../../filesystem/errno.ts';
import { isWritable, type OpenFileKind } from '../../filesystem/file-system.ts';
import type { Exchange } from '../exchange.ts';
import { OUT_HEADER_BYTES } from '../wire/headers.ts';
import { decodeLseekIn, encodeLseekOut, SEEK_DATA, SEEK_HOLE } from '../wire/lseek.ts';
import { encodeOpenOut, FOPEN_DIRECT_IO, FOPEN_KEEP_CACHE, isOpenForWriting } from '../wire/open.ts';
import { readInOffset, readInSize } from '../wire/read.ts';

/** Twice as long as it takes to notice a change of an image. */
const PATIENCE_MS = 500;

/** For a caller whom no mode stops, such as root. */
const ANY_MAY_WRITE = 0o222;

export function open(exchange: Exchange): number {
  const { fileSystem, node, options } = exchange;
  const { kind, permissions } = fileSystem.attributes(node);
  if (isOpenForWriting(exchange.request)) {
    if (!isWritable(fileSystem)) return -ERRNO.EROFS;
    if (kind === 'file' && (permissions & ANY_MAY_WRITE) === 0) return -ERRNO.EACCES;
  }
  if (kind === 'directory') return -ERRNO.EISDIR;
  if (kind === 'symlink') return -ERRNO.EINVAL;
  const isCached = openNode(exchange) === 'steady' && !options.directIo;
  // Without FOPEN_KEEP_CACHE each open would drop what the page cache has of the file.
  return encodeOpenOut(exchange.reply, OUT_HEADER_BYTES, isCached ? FOPEN_KEEP_CACHE : FOPEN_DIRECT_IO);
}

/**
 * A file that has just become another one is not what its name leads to before that is shown, and one that is written to
 * counts as such until it is shown that its writer is gone: so the answer waits for a newer file system. If that does not have
 * the node, it is ESTALE, and the kernel looks the name up once more (do_filp_open in fs/namei.c).
 */
function openNode(exchange: Exchange): OpenFileKind {
  const deadline = performance.now() + PATIENCE_MS;
  for (;;) {
    try {
      return exchange.fileSystem.open(exchange.node);
    } catch (error) {
      const mayPass = error instanceof Qcow2fsError && (error.code === 'STALE' || error.code === 'BUSY');
      if (!mayPass || !exchange.renewFileSystem(deadline - performance.now())) throw error;
    }
  }
}

/**
 * Reads straight into the reply. No promise, no closure and no allocation: this is the path that every byte takes.
 *
 * A reply must not be shorter than asked except at the end of the file: the kernel takes a short one for the end, and
 * lowers the file's size (fuse_read_update_size in fs/fuse/file.c).
 */
export function read(exchange: Exchange): number {
  const offset = readInOffset(exchange.request);
  const size = readInSize(exchange.request);
  const capacity = exchange.capacityBytes;
  // No file reaches that far, so this is behind its end; and a rounded offset must not be read at.
  if (offset > Number.MAX_SAFE_INTEGER) return 0;
  let count: number;
  try {
    count = exchange.fileSystem.read(
      exchange.node,
      exchange.reply,
      OUT_HEADER_BYTES,
      offset,
      size < capacity ? size : capacity,
    );
  } catch (error) {
    if (exchange.fileSystem.attributes(exchange.node).kind === 'directory') return -ERRNO.EISDIR;
    throw error;
  }
  // More was asked than there is room for, and the file goes on: what was read would look like its end.
  if (size > capacity && count === capacity) return -ERRNO.EIO;
  return count;
}

/** lseek(2) for holes: fs/fuse checks nothing before it asks. */
export function lseek(exchange: Exchange): number {
  const { fileSystem, node } = exchange;
  const { offset, whence } = decodeLseekIn(exchange.request);
  const { kind, sizeBytes } = fileSystem.attributes(node);
  if (kind !== 'file' || (whence !== SEEK_DATA && whence !== SEEK_HOLE)) return -ERRNO.EINVAL;
  if (offset < 0 || offset >= sizeBytes) return -ERRNO.ENXIO;
  const found = whence === SEEK_DATA ? fileSystem.seekData(node, offset) : fileSystem.seekHole(node, offset);
  // lseek(2): SEEK_DATA fails with ENXIO when only a hole follows.
  if (found === undefined) return -ERRNO.ENXIO;
  return encodeLseekOut(exchange.reply, OUT_HEADER_BYTES, found);
}
