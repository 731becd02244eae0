/** Requests that change the contents of a file. Names, sizes, owners and modes stay as they are. */

import { ERRNO } from '../../filesystem/errno.ts';
import { isWritable } from '../../filesystem/file-system.ts';
import type { Exchange } from '../exchange.ts';
import { OUT_HEADER_BYTES } from '../wire/headers.ts';
import { FATTR_GID, FATTR_MODE, FATTR_SIZE, FATTR_UID, setattrInSize, setattrInValid } from '../wire/setattr.ts';
import {
  decodeFallocateIn,
  encodeWriteOut,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  WRITE_DATA_OFFSET,
  writeInOffset,
  writeInSize,
} from '../wire/write.ts';
import { getattr } from './nodes.ts';

/** Straight from the request: the data is not copied. */
export function write(exchange: Exchange): number {
  const { fileSystem, node, request, requestBytes } = exchange;
  if (!isWritable(fileSystem)) return -ERRNO.EROFS;
  const offset = writeInOffset(request);
  const size = writeInSize(request);
  if (size > requestBytes - WRITE_DATA_OFFSET) return -ERRNO.EINVAL;
  const count = isWithinReach(offset, size) ? fileSystem.write(node, request, WRITE_DATA_OFFSET, offset, size) : 0;
  // As write(2) has it for a file that cannot grow; less than all is said first.
  if (count === 0 && size > 0) return -ERRNO.EFBIG;
  return encodeWriteOut(exchange.reply, OUT_HEADER_BYTES, count);
}

/** What makes holes and zeros is done; space cannot be reserved (fallocate(2): EOPNOTSUPP), as the budget is all there is. */
export function fallocate(exchange: Exchange): number {
  const { fileSystem, node } = exchange;
  if (!isWritable(fileSystem)) return -ERRNO.EROFS;
  const { offset, length, mode } = decodeFallocateIn(exchange.request);
  if ((mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) === 0) return -ERRNO.EOPNOTSUPP;
  const { sizeBytes } = fileSystem.attributes(node);
  const end = isWithinReach(offset, length) ? offset + length : Number.MAX_SAFE_INTEGER;
  if (end > sizeBytes && (mode & FALLOC_FL_KEEP_SIZE) === 0) return -ERRNO.EFBIG;
  if (offset < sizeBytes) fileSystem.discard(node, offset, Math.min(end, sizeBytes) - offset);
  return 0;
}

export function fsync(exchange: Exchange): number {
  const { fileSystem, node } = exchange;
  // Success, and the kernel never asks again (fs/fuse/file.c, fuse_fsync).
  if (!isWritable(fileSystem)) return -ERRNO.ENOSYS;
  fileSystem.sync(node);
  return 0;
}

/** Times are taken and forgotten: that of the last write is the one that is shown. */
export function setattr(exchange: Exchange): number {
  const { fileSystem, node, request } = exchange;
  if (!isWritable(fileSystem)) return -ERRNO.EROFS;
  const valid = setattrInValid(request);
  if ((valid & (FATTR_MODE | FATTR_UID | FATTR_GID)) !== 0) return -ERRNO.EPERM;
  // ftruncate(2): EPERM where a file cannot be resized. Open(2) with O_TRUNC comes here too.
  const isResized = (valid & FATTR_SIZE) !== 0 && setattrInSize(request) !== fileSystem.attributes(node).sizeBytes;
  return isResized ? -ERRNO.EPERM : getattr(exchange);
}

/** A rounded offset must not be written at. */
function isWithinReach(offset: number, length: number): boolean {
  return offset <= Number.MAX_SAFE_INTEGER - length;
}
