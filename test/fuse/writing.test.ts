import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { DISK_BYTES, DISK_NODE, INFO_NODE, WritableMemoryFileSystem } from './memory-file-system.ts';
import { ask, bytes, collectWarnings, errnoOf, replyHeader, request, u32 } from './wire-bytes.ts';

const SETATTR = 4;
const OPEN = 14;
const WRITE = 16;
const FSYNC = 20;
const INIT = 26;
const FALLOCATE = 43;
const [EPERM, EACCES, EINVAL, EFBIG, ENOSPC, EROFS, EOPNOTSUPP] = [1, 13, 22, 27, 28, 30, 95];
const PUNCH_HOLE_KEEP_SIZE = 3;
const ZERO_RANGE = 0x10;
const O_RDWR = 2;

let fileSystem: WritableMemoryFileSystem;

beforeEach(() => {
  fileSystem = new WritableMemoryFileSystem();
  collectWarnings();
});
afterEach(() => {
  vi.restoreAllMocks();
});

/** The bodies of WRITE and FALLOCATE, as fuse.h has them. */
function writeBody(offset: number | bigint, data: string, size = data.length): Buffer {
  const body = Buffer.alloc(40 + data.length);
  body.writeBigUInt64LE(BigInt(offset), 8);
  body.writeUInt32LE(size, 16);
  body.write(data, 40, 'latin1');
  return body;
}

function fallocateBody(offset: number | bigint, length: number | bigint, mode: number): Buffer {
  const body = Buffer.alloc(32);
  body.writeBigUInt64LE(BigInt(offset), 8);
  body.writeBigUInt64LE(BigInt(length), 16);
  body.writeUInt32LE(mode, 24);
  return body;
}

function setattrBody(valid: number, size = 0): Buffer {
  const body = Buffer.alloc(88);
  body.writeUInt32LE(valid, 0);
  body.writeBigUInt64LE(BigInt(size), 16);
  return body;
}

function errno(opcode: number, node: number, body: Buffer): number {
  return Math.abs(errnoOf(ask(fileSystem, request(opcode, node, body))));
}

describe('WRITE', () => {
  it('changes the bytes of the file, and says how many', () => {
    const asked = bytes(`
      53 00 00 00              len 83
      10 00 00 00              opcode WRITE
      ff ee dd cc bb aa 99 88  unique
      02 00 00 00 00 00 00 00  nodeid
      00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
      00 00 00 00 00 00 00 00  fh
      02 01 00 00 00 00 00 00  offset
      03 00 00 00              size
      00 00 00 00              write_flags
      00 00 00 00 00 00 00 00  lock_owner
      02 00 00 00 00 00 00 00  flags, padding
      61 62 63                 data
    `);
    expect(ask(fileSystem, asked)).toEqual(
      bytes(`
        18 00 00 00              len 24
        00 00 00 00              error
        ff ee dd cc bb aa 99 88  unique
        03 00 00 00 00 00 00 00  size, padding
      `),
    );
    expect(fileSystem.disk.subarray(0x100, 0x107).toString('latin1')).toBe('\x01\x01abc\x01\x01');
  });

  it('ends where the file ends, and is EFBIG behind it', () => {
    const reply = ask(fileSystem, request(WRITE, DISK_NODE, writeBody(DISK_BYTES - 2, 'abc')));
    expect(reply?.readUInt32LE(16)).toBe(2);
    expect(fileSystem.disk.subarray(-2).toString()).toBe('ab');
    for (const offset of [BigInt(DISK_BYTES), 2n ** 53n, 2n ** 64n - 1n]) {
      expect(errno(WRITE, DISK_NODE, writeBody(offset, 'abc'))).toBe(EFBIG);
    }
  });

  it('is ENOSPC where there is no room, and EROFS for what cannot be written', () => {
    fileSystem.fullFrom = 0x100;
    expect(errno(WRITE, DISK_NODE, writeBody(0xff, 'abc'))).toBe(ENOSPC);
    expect(errno(WRITE, INFO_NODE, writeBody(0, 'abc'))).toBe(EROFS);
  });

  it('is EINVAL when it promises more than it brings', () => {
    expect(errno(WRITE, DISK_NODE, writeBody(0, 'abc', 4))).toBe(EINVAL);
    expect(fileSystem.disk.every((byte) => byte === 1)).toBe(true);
  });
});

describe('FALLOCATE', () => {
  it.each([PUNCH_HOLE_KEEP_SIZE, ZERO_RANGE, ZERO_RANGE | 1])('of mode %i makes zeros', (mode) => {
    expect(errno(FALLOCATE, DISK_NODE, fallocateBody(0x10, 0x20, mode))).toBe(0);
    const expected = Buffer.alloc(DISK_BYTES, 1).fill(0, 0x10, 0x30);
    expect(fileSystem.disk.equals(expected)).toBe(true);
  });

  it.each([0, 1])('of mode %i, which reserves space, is not supported', (mode) => {
    expect(errno(FALLOCATE, DISK_NODE, fallocateBody(0, 0x20, mode))).toBe(EOPNOTSUPP);
  });

  it('ends where the file ends, and does not make it longer', () => {
    expect(errno(FALLOCATE, DISK_NODE, fallocateBody(DISK_BYTES - 1, 2n ** 63n - 1n, PUNCH_HOLE_KEEP_SIZE))).toBe(0);
    expect([...fileSystem.disk.subarray(-2)]).toEqual([1, 0]);
    expect(errno(FALLOCATE, DISK_NODE, fallocateBody(2n ** 60n, 1, PUNCH_HOLE_KEEP_SIZE))).toBe(0);
    expect(errno(FALLOCATE, DISK_NODE, fallocateBody(DISK_BYTES, 1, ZERO_RANGE))).toBe(EFBIG);
  });
});

describe('SETATTR', () => {
  it.each([
    ['of the size that it has', setattrBody(8, DISK_BYTES), 0],
    ['of times', setattrBody(0x30), 0],
    ['of another size', setattrBody(8, 0), EPERM],
    ['of the mode', setattrBody(1), EPERM],
    ['of the owner', setattrBody(2), EPERM],
    ['of the group', setattrBody(4), EPERM],
  ])('%s', (_, body, expected) => {
    const reply = ask(fileSystem, request(SETATTR, DISK_NODE, body));
    expect(Math.abs(errnoOf(reply))).toBe(expected);
    // `struct fuse_attr_out`, with the size at 24.
    if (expected === 0) expect(reply?.readBigUInt64LE(16 + 24)).toBe(BigInt(DISK_BYTES));
  });
});

it('OPEN for writing is for files with a mode that has it', () => {
  expect(errno(OPEN, DISK_NODE, u32(O_RDWR, 0))).toBe(0);
  expect(errno(OPEN, INFO_NODE, u32(O_RDWR, 0))).toBe(EACCES);
});

it('FSYNC comes through', () => {
  expect(ask(fileSystem, request(FSYNC, DISK_NODE, Buffer.alloc(16)))).toEqual(replyHeader(16));
  expect(fileSystem.synced).toEqual([DISK_NODE]);
});

it('INIT asks for large writes, with room for them, and for no mappings that would not follow', () => {
  const body = Buffer.alloc(64);
  body.set(u32(7, 31, 0x20000, 0xffffffff, 0xffffffff));
  const reply = ask(fileSystem, request(INIT, 0, body), { isWritable: true });
  const maxWrite = reply?.readUInt32LE(16 + 20);
  expect(maxWrite).toBe(256 * 1024);
  expect((reply?.readUInt32LE(16 + 12) ?? 0) & (1 << 5)).not.toBe(0);
  expect(reply?.readUInt32LE(16 + 32)).toBe(0);
});
