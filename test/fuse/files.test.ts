import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Qcow2fsError } from '../../src/errors.ts';
import {
  DAMAGED_NODE,
  DATA_END,
  DATA_START,
  DISK_BYTES,
  DISK_NODE,
  FOLDER_NODE,
  LINK_NODE,
  MemoryFileSystem,
} from './memory-file-system.ts';
import { ask, bytes, collectWarnings, errnoOf, readBody, replyHeader, request, u32 } from './wire-bytes.ts';

const fileSystem = new MemoryFileSystem();
const OPEN = 14;
const READ = 15;
const LSEEK = 46;
const O_WRONLY = 1;
const O_RDWR = 2;
const O_TRUNC = 0o1000;
const O_LARGEFILE = 0o100000;

function read(node: number, offset: number | bigint, size: number): Buffer | undefined {
  return ask(fileSystem, request(READ, node, readBody(offset, size)));
}

beforeEach(() => {
  collectWarnings();
});
afterEach(() => {
  vi.restoreAllMocks();
});

describe('OPEN', () => {
  it('keeps what the page cache has of the file', () => {
    const asked = bytes(`
      30 00 00 00              len 48
      0e 00 00 00              opcode OPEN
      ff ee dd cc bb aa 99 88  unique
      02 00 00 00 00 00 00 00  nodeid
      00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
      00 80 00 00              flags O_RDONLY | O_LARGEFILE
      00 00 00 00              open_flags
    `);
    expect(ask(fileSystem, asked)).toEqual(
      bytes(`
        20 00 00 00              len 32
        00 00 00 00              error
        ff ee dd cc bb aa 99 88  unique
        00 00 00 00 00 00 00 00  fh
        02 00 00 00              open_flags FOPEN_KEEP_CACHE
        00 00 00 00              backing_id
      `),
    );
  });

  it('bypasses the page cache on demand', () => {
    const reply = ask(fileSystem, request(OPEN, DISK_NODE, u32(O_LARGEFILE, 0)), { directIo: true });
    expect(reply?.readUInt32LE(16 + 8)).toBe(1);
  });

  it.each([O_WRONLY, O_RDWR, O_TRUNC])('is EROFS for writing, flags %i', (flags) => {
    expect(errnoOf(ask(fileSystem, request(OPEN, DISK_NODE, u32(flags, 0))))).toBe(30);
  });

  it('is EISDIR for a directory and EINVAL for a symlink', () => {
    expect(errnoOf(ask(fileSystem, request(OPEN, FOLDER_NODE, u32(0, 0))))).toBe(21);
    expect(errnoOf(ask(fileSystem, request(OPEN, LINK_NODE, u32(0, 0))))).toBe(22);
  });

  it('is the error of the file system when the file cannot be opened now', () => {
    expect(errnoOf(ask(fileSystem, request(OPEN, DAMAGED_NODE, u32(0, 0))))).toBe(116);
  });
});

describe('READ', () => {
  it('answers with the bytes, and nothing else, behind the header', () => {
    const asked = bytes(`
      50 00 00 00              len 80
      0f 00 00 00              opcode READ
      ff ee dd cc bb aa 99 88  unique
      05 00 00 00 00 00 00 00  nodeid
      00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
      00 00 00 00 00 00 00 00  fh
      02 00 00 00 00 00 00 00  offset 2
      03 00 00 00              size 3
      00 00 00 00              read_flags
      00 00 00 00 00 00 00 00  lock_owner
      00 80 00 00              flags
      00 00 00 00              padding
    `);
    expect(ask(fileSystem, asked)).toEqual(
      bytes(`
        13 00 00 00              len 19
        00 00 00 00              error
        ff ee dd cc bb aa 99 88  unique
        61 22 3a                 a":
      `),
    );
  });

  it('answers short only where the file ends', () => {
    expect(read(DISK_NODE, DISK_BYTES - 100, 4096)?.length).toBe(16 + 100);
    expect(read(DISK_NODE, DISK_BYTES, 4096)).toEqual(replyHeader(16));
    expect(read(DISK_NODE, DISK_BYTES + 1, 4096)).toEqual(replyHeader(16));
  });

  it('answers an offset that no file has with nothing', () => {
    expect(read(DISK_NODE, 0xffff_ffff_ffff_ffffn, 4096)).toEqual(replyHeader(16));
    expect(read(DISK_NODE, 2n ** 53n, 4096)).toEqual(replyHeader(16));
  });

  it('reads nothing when nothing is asked for', () => {
    expect(read(DISK_NODE, 0, 0)).toEqual(replyHeader(16));
  });

  it('is EIO when any byte cannot be read', () => {
    expect(errnoOf(read(DAMAGED_NODE, 0, 512))).toBe(5);
  });

  it('is EISDIR for a directory, and ESTALE for an unknown node', () => {
    expect(errnoOf(read(FOLDER_NODE, 0, 512))).toBe(21);
    expect(errnoOf(read(999, 0, 512))).toBe(116);
  });

  it('is EIO rather than short when more is asked than there is room for', () => {
    const replyBodyBytes = 4096;
    const asked = (offset: number, size: number) =>
      ask(fileSystem, request(READ, DISK_NODE, readBody(offset, size)), { replyBodyBytes });
    expect(errnoOf(asked(0, 4097))).toBe(5);
    expect(asked(0, 4096)?.length).toBe(16 + 4096);
    expect(asked(DISK_BYTES - 10, 4097)?.length).toBe(16 + 10);
  });
});

describe('LSEEK', () => {
  const seek = (node: number, offset: bigint, whence: number) => {
    const body = Buffer.alloc(24);
    body.writeBigInt64LE(offset, 8);
    body.writeUInt32LE(whence, 16);
    return ask(fileSystem, request(LSEEK, node, body));
  };
  const SEEK_DATA = 3;
  const SEEK_HOLE = 4;

  it('answers with the offset that was found', () => {
    const asked = bytes(`
      40 00 00 00              len 64
      2e 00 00 00              opcode LSEEK
      ff ee dd cc bb aa 99 88  unique
      02 00 00 00 00 00 00 00  nodeid
      00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
      00 00 00 00 00 00 00 00  fh
      01 00 00 00 00 00 00 00  offset 1
      03 00 00 00              whence SEEK_DATA
      00 00 00 00              padding
    `);
    expect(ask(fileSystem, asked)).toEqual(
      bytes(`
        18 00 00 00              len 24
        00 00 00 00              error
        ff ee dd cc bb aa 99 88  unique
        00 10 00 00 00 00 00 00  offset 0x1000
      `),
    );
  });

  it('finds data and holes from inside and outside of them', () => {
    const found = (offset: number, whence: number) =>
      Number(seek(DISK_NODE, BigInt(offset), whence)?.readBigUInt64LE(16));
    expect(found(DATA_START + 1, SEEK_DATA)).toBe(DATA_START + 1);
    expect(found(DATA_START + 1, SEEK_HOLE)).toBe(DATA_END);
    expect(found(5, SEEK_HOLE)).toBe(5);
  });

  it('is ENXIO behind the last data, behind the end and before the start', () => {
    expect(errnoOf(seek(DISK_NODE, BigInt(DATA_END), SEEK_DATA))).toBe(6);
    expect(errnoOf(seek(DISK_NODE, BigInt(DISK_BYTES), SEEK_HOLE))).toBe(6);
    expect(errnoOf(seek(DISK_NODE, BigInt(DISK_BYTES), SEEK_DATA))).toBe(6);
    expect(errnoOf(seek(DISK_NODE, -1n, SEEK_DATA))).toBe(6);
    expect(errnoOf(seek(DISK_NODE, 2n ** 62n, SEEK_HOLE))).toBe(6);
  });

  it('is EINVAL for other ways to seek and for a directory', () => {
    expect(errnoOf(seek(DISK_NODE, 0n, 1))).toBe(22);
    expect(errnoOf(seek(FOLDER_NODE, 0n, SEEK_DATA))).toBe(22);
  });
});

describe('the path of READ', () => {
  it('passes a number, the reply buffer and the place behind the header to the file system', () => {
    const calls: unknown[] = [];
    class Recording extends MemoryFileSystem {
      override read(...args: Parameters<MemoryFileSystem['read']>): number {
        calls.push([args[0], args[2], args[3], args[4]]);
        return super.read(...args);
      }
    }
    ask(new Recording(), request(READ, DISK_NODE, readBody(0x1_2345_6789, 1024)));
    expect(calls).toEqual([[DISK_NODE, 16, 0x1_2345_6789, 1024]]);
  });

  it('says STALE as ESTALE', () => {
    class Stale extends MemoryFileSystem {
      override read(): number {
        throw new Qcow2fsError('STALE', 'the image has changed');
      }
    }
    expect(errnoOf(ask(new Stale(), request(READ, DISK_NODE, readBody(0, 1024))))).toBe(116);
  });
});
