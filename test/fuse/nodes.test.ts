import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { BROKEN_NODE, DISK_NODE, FOLDER_NODE, LINK_NODE, MemoryFileSystem } from './memory-file-system.ts';
import { ask, bytes, collectWarnings, errnoOf, replyHeader, request } from './wire-bytes.ts';

const fileSystem = new MemoryFileSystem();
const LOOKUP = 1;
const GETATTR = 3;
const READLINK = 5;
const STATFS = 17;
const STATX = 52;

/** Of node 2, disk.raw. */
const DISK_ATTR = `
  02 00 00 00 00 00 00 00  ino
  00 28 00 00 00 00 00 00  size 0x2800
  08 00 00 00 00 00 00 00  blocks: 4 KiB of it are allocated
  00 00 00 65 00 00 00 00  atime
  00 00 00 65 00 00 00 00  mtime
  00 00 00 65 00 00 00 00  ctime
  45 23 01 00              atimensec
  45 23 01 00              mtimensec
  45 23 01 00              ctimensec
  24 81 00 00              mode 0100444
  01 00 00 00              nlink
  e8 03 00 00              uid
  e9 03 00 00              gid
  00 00 00 00              rdev
  00 10 00 00              blksize
  00 00 00 00              flags
`;
/** Half a second: whole seconds, and nanoseconds. */
const VALID = '00 00 00 00 00 00 00 00';
const VALID_NSEC = '00 65 cd 1d';

function lookupRequest(parent: number, name: string): Buffer {
  return request(LOOKUP, parent, Buffer.from(`${name}\0`, 'latin1'));
}

function foundNode(reply: Buffer | undefined): bigint | undefined {
  return reply?.readBigUInt64LE(16);
}

beforeEach(() => {
  collectWarnings();
});
afterEach(() => {
  vi.restoreAllMocks();
});

describe('LOOKUP', () => {
  it('answers a name with node, validity and attributes', () => {
    const asked = bytes(`
      31 00 00 00              len 49
      01 00 00 00              opcode LOOKUP
      ff ee dd cc bb aa 99 88  unique
      01 00 00 00 00 00 00 00  nodeid: the root
      00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
      64 69 73 6b 2e 72 61 77 00  "disk.raw"
    `);
    expect(ask(fileSystem, asked)).toEqual(
      bytes(`
        90 00 00 00              len 144
        00 00 00 00              error
        ff ee dd cc bb aa 99 88  unique
        02 00 00 00 00 00 00 00  nodeid
        00 00 00 00 00 00 00 00  generation
        ${VALID}  entry_valid
        ${VALID}  attr_valid
        ${VALID_NSEC} ${VALID_NSEC}  their nanoseconds
        ${DISK_ATTR}
      `),
    );
  });

  it('lets the kernel remember that a name does not exist', () => {
    expect(ask(fileSystem, lookupRequest(1, 'nothing'))).toEqual(
      Buffer.concat([
        replyHeader(144),
        bytes(`
          00 00 00 00 00 00 00 00  nodeid 0: no such name
          00 00 00 00 00 00 00 00  generation
          ${VALID}  entry_valid
          00 00 00 00 00 00 00 00  attr_valid
          ${VALID_NSEC}              entry_valid_nsec
        `),
        Buffer.alloc(92),
      ]),
    );
  });

  it('takes a name as bytes', () => {
    expect(foundNode(ask(fileSystem, lookupRequest(1, 'gr\u00fcn')))).toBe(BigInt(FOLDER_NODE));
  });

  it('answers "." and ".." for an NFS server', () => {
    expect(foundNode(ask(fileSystem, lookupRequest(FOLDER_NODE, '.')))).toBe(BigInt(FOLDER_NODE));
    expect(foundNode(ask(fileSystem, lookupRequest(FOLDER_NODE, '..')))).toBe(1n);
    expect(foundNode(ask(fileSystem, lookupRequest(1, '..')))).toBe(1n);
  });

  it('is ENOTDIR in a file', () => {
    expect(errnoOf(ask(fileSystem, lookupRequest(DISK_NODE, 'x')))).toBe(20);
  });

  it('is ESTALE in a directory that does not exist any more', () => {
    expect(errnoOf(ask(fileSystem, lookupRequest(999, 'x')))).toBe(116);
  });

  it('is EINVAL without a name or without its NUL', () => {
    expect(errnoOf(ask(fileSystem, request(LOOKUP, 1, Buffer.from('\0\0'))))).toBe(22);
    expect(errnoOf(ask(fileSystem, request(LOOKUP, 1, Buffer.from('\0'))))).toBe(22);
    expect(errnoOf(ask(fileSystem, request(LOOKUP, 1, Buffer.alloc(65_536 - 40, 'x'))))).toBe(22);
  });
});

describe('GETATTR', () => {
  it('answers with attributes and how long they hold', () => {
    const asked = bytes(`
      38 00 00 00              len 56
      03 00 00 00              opcode GETATTR
      ff ee dd cc bb aa 99 88  unique
      02 00 00 00 00 00 00 00  nodeid
      00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
      00 00 00 00              getattr_flags
      00 00 00 00              dummy
      00 00 00 00 00 00 00 00  fh
    `);
    expect(ask(fileSystem, asked)).toEqual(
      bytes(`
        78 00 00 00              len 120
        00 00 00 00              error
        ff ee dd cc bb aa 99 88  unique
        ${VALID}  attr_valid
        ${VALID_NSEC}              attr_valid_nsec
        00 00 00 00              dummy
        ${DISK_ATTR}
      `),
    );
  });

  it.each([
    ['a directory', 1, 0o040755],
    ['a symlink', LINK_NODE, 0o120777],
  ])('shows the type of %s in its mode', (_, node, mode) => {
    expect(ask(fileSystem, request(GETATTR, node, Buffer.alloc(16)))?.readUInt32LE(16 + 16 + 60)).toBe(mode);
  });

  it('is EIO when the file system has a bug, and ESTALE for an unknown node', () => {
    expect(errnoOf(ask(fileSystem, request(GETATTR, BROKEN_NODE, Buffer.alloc(16))))).toBe(5);
    expect(errnoOf(ask(fileSystem, request(GETATTR, 999, Buffer.alloc(16))))).toBe(116);
  });
});

describe('STATX', () => {
  it('answers with the birth time as well', () => {
    expect(ask(fileSystem, request(STATX, DISK_NODE, Buffer.alloc(24)))).toEqual(
      Buffer.concat([
        replyHeader(304),
        bytes(`
          ${VALID}  attr_valid
          ${VALID_NSEC}              attr_valid_nsec
          00 00 00 00              flags
          00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
          ff 0f 00 00              mask: basic statistics and the birth time
          00 10 00 00              blksize
          00 00 00 00 00 00 00 00  attributes
          01 00 00 00              nlink
          e8 03 00 00              uid
          e9 03 00 00              gid
          24 81 00 00              mode 0100444
          02 00 00 00 00 00 00 00  ino
          00 28 00 00 00 00 00 00  size
          08 00 00 00 00 00 00 00  blocks
          00 00 00 00 00 00 00 00  attributes_mask
          00 00 00 65 00 00 00 00 45 23 01 00 00 00 00 00  atime
          00 00 00 65 00 00 00 00 45 23 01 00 00 00 00 00  btime
          00 00 00 65 00 00 00 00 45 23 01 00 00 00 00 00  ctime
          00 00 00 65 00 00 00 00 45 23 01 00 00 00 00 00  mtime
        `),
        Buffer.alloc(128),
      ]),
    );
  });
});

describe('READLINK', () => {
  it('answers with the target as bytes', () => {
    expect(ask(fileSystem, request(READLINK, LINK_NODE))).toEqual(
      Buffer.concat([replyHeader(20), bytes('67 72 fc 6e  "gr\u00fcn"')]),
    );
  });

  it('is EINVAL for what is no symlink', () => {
    expect(errnoOf(ask(fileSystem, request(READLINK, DISK_NODE)))).toBe(22);
  });

  it('is EIO when the target does not fit', () => {
    expect(errnoOf(ask(fileSystem, request(READLINK, LINK_NODE), { replyBodyBytes: 3 }))).toBe(5);
  });
});

describe('STATFS', () => {
  it('tells size and nodes, and that nothing is free', () => {
    expect(ask(fileSystem, request(STATFS, 1))).toEqual(
      Buffer.concat([
        replyHeader(96),
        bytes(`
          06 00 00 00 00 00 00 00  blocks: 0x5001 bytes, rounded up
          00 00 00 00 00 00 00 00  bfree
          00 00 00 00 00 00 00 00  bavail
          07 00 00 00 00 00 00 00  files
          00 00 00 00 00 00 00 00  ffree
          00 10 00 00              bsize
          ff 00 00 00              namelen
          00 10 00 00              frsize
          00 00 00 00 00 00 00 00 00 00 00 00 00 00
          00 00 00 00 00 00 00 00 00 00 00 00 00 00
        `),
      ]),
    );
  });
});
