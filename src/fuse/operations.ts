/**
 * Every operation of the protocol, one row each. What is not listed is answered with ENOSYS.
 *
 * ENOSYS is also the right answer to some that are: the kernel then never asks again and does without. For FLUSH, FSYNCDIR and
 * SYNCFS that means success for the caller, for ACCESS that the mode bits decide (which they do anyway, by
 * the mount option default_permissions), for POLL that a file is always ready.
 */

import { ERRNO } from '../filesystem/errno.ts';
import type { Handler } from './exchange.ts';
import { opendir, readdir, readdirplus } from './handlers/directories.ts';
import { getxattr, listxattr } from './handlers/extended-attributes.ts';
import { lseek, open, read } from './handlers/files.ts';
import { initialize } from './handlers/initialize.ts';
import { getattr, lookup, readlink, statfs, statx } from './handlers/nodes.ts';
import { fallocate, fsync, setattr, write } from './handlers/writing.ts';
import { LSEEK_IN_BYTES } from './wire/lseek.ts';
import { OPCODE } from './wire/opcodes.ts';
import { READ_IN_BYTES } from './wire/read.ts';
import { SETATTR_IN_BYTES } from './wire/setattr.ts';
import { FALLOCATE_IN_BYTES, WRITE_IN_BYTES } from './wire/write.ts';
import { GETXATTR_IN_BYTES } from './wire/xattr.ts';

export interface Operation {
  readonly opcode: number;
  readonly name: string;
  /** The least that follows the header; a shorter request is EINVAL. A name counts with one character and its NUL. */
  readonly minimalBodyBytes: number;
  /** False where the kernel does not wait for a reply, and would refuse one. */
  readonly hasReply: boolean;
  readonly handle: Handler;
}

const NAME = 2;

const succeed: Handler = () => 0;
const readOnly: Handler = () => -ERRNO.EROFS;
const doWithout: Handler = () => -ERRNO.ENOSYS;
const notATerminal: Handler = () => -ERRNO.ENOTTY;

// biome-ignore format: one row per operation
const OPERATIONS: readonly Operation[] = [
  { opcode: OPCODE.FUSE_INIT,         name: 'INIT',         minimalBodyBytes: 8,  hasReply: true,  handle: initialize },
  // Only sent for block devices (fs/fuse/inode.c, fuse_send_destroy); the end of a mount is an error of read(2).
  { opcode: OPCODE.FUSE_DESTROY,      name: 'DESTROY',      minimalBodyBytes: 0,  hasReply: true,  handle: succeed },

  { opcode: OPCODE.FUSE_LOOKUP,       name: 'LOOKUP',       minimalBodyBytes: NAME, hasReply: true, handle: lookup },
  // Nothing is counted: a node lives as long as the file system.
  { opcode: OPCODE.FUSE_FORGET,       name: 'FORGET',       minimalBodyBytes: 8,  hasReply: false, handle: succeed },
  { opcode: OPCODE.FUSE_BATCH_FORGET, name: 'BATCH_FORGET', minimalBodyBytes: 8,  hasReply: false, handle: succeed },
  { opcode: OPCODE.FUSE_GETATTR,      name: 'GETATTR',      minimalBodyBytes: 16, hasReply: true,  handle: getattr },
  { opcode: OPCODE.FUSE_STATX,        name: 'STATX',        minimalBodyBytes: 24, hasReply: true,  handle: statx },
  { opcode: OPCODE.FUSE_READLINK,     name: 'READLINK',     minimalBodyBytes: 0,  hasReply: true,  handle: readlink },
  { opcode: OPCODE.FUSE_STATFS,       name: 'STATFS',       minimalBodyBytes: 0,  hasReply: true,  handle: statfs },
  { opcode: OPCODE.FUSE_ACCESS,       name: 'ACCESS',       minimalBodyBytes: 8,  hasReply: true,  handle: doWithout },

  { opcode: OPCODE.FUSE_OPEN,         name: 'OPEN',         minimalBodyBytes: 8,  hasReply: true,  handle: open },
  { opcode: OPCODE.FUSE_READ,         name: 'READ',         minimalBodyBytes: READ_IN_BYTES, hasReply: true, handle: read },
  { opcode: OPCODE.FUSE_LSEEK,        name: 'LSEEK',        minimalBodyBytes: LSEEK_IN_BYTES, hasReply: true, handle: lseek },
  { opcode: OPCODE.FUSE_FLUSH,        name: 'FLUSH',        minimalBodyBytes: 24, hasReply: true,  handle: doWithout },
  { opcode: OPCODE.FUSE_FSYNC,        name: 'FSYNC',        minimalBodyBytes: 16, hasReply: true,  handle: fsync },
  { opcode: OPCODE.FUSE_RELEASE,      name: 'RELEASE',      minimalBodyBytes: 24, hasReply: true,  handle: succeed },

  { opcode: OPCODE.FUSE_OPENDIR,      name: 'OPENDIR',      minimalBodyBytes: 8,  hasReply: true,  handle: opendir },
  { opcode: OPCODE.FUSE_READDIR,      name: 'READDIR',      minimalBodyBytes: READ_IN_BYTES, hasReply: true, handle: readdir },
  { opcode: OPCODE.FUSE_READDIRPLUS,  name: 'READDIRPLUS',  minimalBodyBytes: READ_IN_BYTES, hasReply: true, handle: readdirplus },
  { opcode: OPCODE.FUSE_FSYNCDIR,     name: 'FSYNCDIR',     minimalBodyBytes: 16, hasReply: true,  handle: doWithout },
  { opcode: OPCODE.FUSE_RELEASEDIR,   name: 'RELEASEDIR',   minimalBodyBytes: 24, hasReply: true,  handle: succeed },

  { opcode: OPCODE.FUSE_GETXATTR,     name: 'GETXATTR',     minimalBodyBytes: GETXATTR_IN_BYTES + NAME, hasReply: true, handle: getxattr },
  { opcode: OPCODE.FUSE_LISTXATTR,    name: 'LISTXATTR',    minimalBodyBytes: GETXATTR_IN_BYTES, hasReply: true, handle: listxattr },

  // Without an answer the kernel waits for the reply to the request itself, and a local image is never slow.
  { opcode: OPCODE.FUSE_INTERRUPT,    name: 'INTERRUPT',    minimalBodyBytes: 8,  hasReply: false, handle: succeed },
  { opcode: OPCODE.FUSE_IOCTL,        name: 'IOCTL',        minimalBodyBytes: 32, hasReply: true,  handle: notATerminal },
  { opcode: OPCODE.FUSE_POLL,         name: 'POLL',         minimalBodyBytes: 24, hasReply: true,  handle: doWithout },
  { opcode: OPCODE.FUSE_BMAP,         name: 'BMAP',         minimalBodyBytes: 16, hasReply: true,  handle: doWithout },
  { opcode: OPCODE.FUSE_SYNCFS,       name: 'SYNCFS',       minimalBodyBytes: 8,  hasReply: true,  handle: doWithout },
  // Locks of flock(2) and fcntl(2) stay in the kernel, since INIT does not ask for them.
  { opcode: OPCODE.FUSE_GETLK,        name: 'GETLK',        minimalBodyBytes: 0,  hasReply: true,  handle: doWithout },
  { opcode: OPCODE.FUSE_SETLK,        name: 'SETLK',        minimalBodyBytes: 0,  hasReply: true,  handle: doWithout },
  { opcode: OPCODE.FUSE_SETLKW,       name: 'SETLKW',       minimalBodyBytes: 0,  hasReply: true,  handle: doWithout },

// On a read-only mount the kernel refuses these itself: here is the second door. On one that can be written, files can be
  // changed but not be made, removed or renamed.
  { opcode: OPCODE.FUSE_WRITE,        name: 'WRITE',        minimalBodyBytes: WRITE_IN_BYTES, hasReply: true, handle: write },
  { opcode: OPCODE.FUSE_FALLOCATE,    name: 'FALLOCATE',    minimalBodyBytes: FALLOCATE_IN_BYTES, hasReply: true, handle: fallocate },
  { opcode: OPCODE.FUSE_SETATTR,      name: 'SETATTR',      minimalBodyBytes: SETATTR_IN_BYTES, hasReply: true, handle: setattr },
  // The kernel then copies by reading and writing.
  { opcode: OPCODE.FUSE_COPY_FILE_RANGE, name: 'COPY_FILE_RANGE', minimalBodyBytes: 0, hasReply: true, handle: doWithout },
  { opcode: OPCODE.FUSE_SYMLINK,      name: 'SYMLINK',      minimalBodyBytes: 0,  hasReply: true,  handle: readOnly },
  { opcode: OPCODE.FUSE_MKNOD,        name: 'MKNOD',        minimalBodyBytes: 0,  hasReply: true,  handle: readOnly },
  { opcode: OPCODE.FUSE_MKDIR,        name: 'MKDIR',        minimalBodyBytes: 0,  hasReply: true,  handle: readOnly },
  { opcode: OPCODE.FUSE_UNLINK,       name: 'UNLINK',       minimalBodyBytes: 0,  hasReply: true,  handle: readOnly },
  { opcode: OPCODE.FUSE_RMDIR,        name: 'RMDIR',        minimalBodyBytes: 0,  hasReply: true,  handle: readOnly },
  { opcode: OPCODE.FUSE_RENAME,       name: 'RENAME',       minimalBodyBytes: 0,  hasReply: true,  handle: readOnly },
  { opcode: OPCODE.FUSE_RENAME2,      name: 'RENAME2',      minimalBodyBytes: 0,  hasReply: true,  handle: readOnly },
  { opcode: OPCODE.FUSE_LINK,         name: 'LINK',         minimalBodyBytes: 0,  hasReply: true,  handle: readOnly },
  { opcode: OPCODE.FUSE_SETXATTR,     name: 'SETXATTR',     minimalBodyBytes: 0,  hasReply: true,  handle: readOnly },
  { opcode: OPCODE.FUSE_REMOVEXATTR,  name: 'REMOVEXATTR',  minimalBodyBytes: 0,  hasReply: true,  handle: readOnly },
  { opcode: OPCODE.FUSE_CREATE,       name: 'CREATE',       minimalBodyBytes: 0,  hasReply: true,  handle: readOnly },
  { opcode: OPCODE.FUSE_TMPFILE,      name: 'TMPFILE',      minimalBodyBytes: 0,  hasReply: true,  handle: readOnly },
];

const BY_OPCODE: (Operation | undefined)[] = [];
for (let opcode = 0; opcode <= OPCODE.FUSE_STATX; opcode++) {
  BY_OPCODE.push(OPERATIONS.find((operation) => operation.opcode === opcode));
}

export function operationOf(opcode: number): Operation | undefined {
  return opcode < BY_OPCODE.length ? BY_OPCODE[opcode] : undefined;
}
