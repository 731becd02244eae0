/** Attributes of the file system contract as the kernel wants them. */

import type { Attributes, NodeKind } from '../filesystem/file-system.ts';
import { BLOCK_BYTES } from './limits.ts';
import type { WireAttributes } from './wire/attr.ts';
import { DT_DIR, DT_LNK, DT_REG } from './wire/dirent.ts';

/** The type in a directory entry. */
export const DIRENT_TYPE: Readonly<Record<NodeKind, number>> = {
  directory: DT_DIR,
  file: DT_REG,
  symlink: DT_LNK,
};

/** A directory entry's type is the S_IFMT part of the mode, moved down by 12 bits. */
const S_IFMT_SHIFT_BITS = 12;
const SECTOR_BYTES = 512;

/**
 * `blocks` is what really is allocated: cp and tar compare it with the size, and look for holes only if it is smaller.
 */
export function toWireAttributes(attributes: Attributes): WireAttributes {
  return {
    ino: attributes.nodeId,
    size: attributes.sizeBytes,
    blocks: Math.ceil(attributes.allocatedBytes / SECTOR_BYTES),
    seconds: attributes.time.seconds,
    nanoseconds: attributes.time.nanoseconds,
    mode: (DIRENT_TYPE[attributes.kind] << S_IFMT_SHIFT_BITS) | (attributes.permissions & 0o777),
    nlink: attributes.linkCount,
    uid: attributes.uid,
    gid: attributes.gid,
    blksize: BLOCK_BYTES,
  };
}
