import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { DISK_NODE, FOLDER_NODE, MemoryFileSystem } from './memory-file-system.ts';
import { ask, bytes, collectWarnings, errnoOf, readBody, replyHeader, request, u32 } from './wire-bytes.ts';

const fileSystem = new MemoryFileSystem();
const OPENDIR = 27;
const READDIR = 28;
const READDIRPLUS = 44;

interface Listed {
  readonly name: string;
  readonly ino: number;
  readonly type: number;
  readonly cookie: number;
  /** The node id of the entry in READDIRPLUS. */
  readonly node?: number;
}

function list(opcode: number, node: number, cookie: number, size: number): Listed[] {
  const reply = ask(fileSystem, request(opcode, node, readBody(cookie, size)));
  const entryBytes = opcode === READDIRPLUS ? 128 : 0;
  const listed: Listed[] = [];
  for (let offset = 16; reply !== undefined && offset < reply.length; ) {
    const dirent = offset + entryBytes;
    const nameBytes = reply.readUInt32LE(dirent + 16);
    listed.push({
      name: reply.toString('latin1', dirent + 24, dirent + 24 + nameBytes),
      ino: Number(reply.readBigUInt64LE(dirent)),
      type: reply.readUInt32LE(dirent + 20),
      cookie: Number(reply.readBigUInt64LE(dirent + 8)),
      ...(entryBytes > 0 && { node: Number(reply.readBigUInt64LE(offset)) }),
    });
    offset += entryBytes + Math.ceil((24 + nameBytes) / 8) * 8;
  }
  return listed;
}

beforeEach(() => {
  collectWarnings();
});
afterEach(() => {
  vi.restoreAllMocks();
});

describe('OPENDIR', () => {
  it('lets the kernel keep the entries', () => {
    expect(ask(fileSystem, request(OPENDIR, 1, u32(0, 0)))).toEqual(
      bytes(`
        20 00 00 00              len 32
        00 00 00 00              error
        ff ee dd cc bb aa 99 88  unique
        00 00 00 00 00 00 00 00  fh
        0a 00 00 00              open_flags FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR
        00 00 00 00              backing_id
      `),
    );
  });

  it('is ENOTDIR for a file and ESTALE for an unknown node', () => {
    expect(errnoOf(ask(fileSystem, request(OPENDIR, DISK_NODE, u32(0, 0))))).toBe(20);
    expect(errnoOf(ask(fileSystem, request(OPENDIR, 999, u32(0, 0))))).toBe(116);
  });
});

describe('READDIR', () => {
  it('begins with "." and ".."', () => {
    expect(ask(fileSystem, request(READDIR, FOLDER_NODE, readBody(0, 64)))).toEqual(
      bytes(`
        50 00 00 00              len 80
        00 00 00 00              error
        ff ee dd cc bb aa 99 88  unique
        03 00 00 00 00 00 00 00  ino
        01 00 00 00 00 00 00 00  off of the next entry
        01 00 00 00              namelen
        04 00 00 00              type DT_DIR
        2e 00 00 00 00 00 00 00  "."
        01 00 00 00 00 00 00 00  ino: the root
        02 00 00 00 00 00 00 00  off
        02 00 00 00              namelen
        04 00 00 00              type
        2e 2e 00 00 00 00 00 00  ".."
      `),
    );
  });

  it('lists all entries with their types, names as bytes', () => {
    expect(list(READDIR, 1, 2, 4096)).toEqual([
      { name: 'disk.raw', ino: 2, type: 8, cookie: 3 },
      { name: 'gr\u00fcn', ino: 3, type: 4, cookie: 4 },
      { name: 'link', ino: 4, type: 10, cookie: 5 },
    ]);
  });

  it('goes on at the cookie where the room ended', () => {
    const names: string[] = [];
    let cookie = 0;
    for (let rounds = 0; rounds < 10; rounds++) {
      const listed = list(READDIR, 1, cookie, 40);
      names.push(...listed.map(({ name }) => name));
      cookie = listed.at(-1)?.cookie ?? cookie;
    }
    expect(names).toEqual(['.', '..', 'disk.raw', 'gr\u00fcn', 'link']);
  });

  it('answers with nothing behind the last entry', () => {
    expect(ask(fileSystem, request(READDIR, 1, readBody(5, 4096)))).toEqual(replyHeader(16));
    expect(ask(fileSystem, request(READDIR, 1, readBody(0xffff_ffff_ffff_ffffn, 4096)))).toEqual(replyHeader(16));
  });

  it('is EINVAL, and not the end, when there is no room for one entry', () => {
    expect(errnoOf(ask(fileSystem, request(READDIR, 1, readBody(0, 31))))).toBe(22);
  });

  it('is ENOTDIR for a file', () => {
    expect(errnoOf(ask(fileSystem, request(READDIR, DISK_NODE, readBody(0, 4096))))).toBe(20);
  });
});

describe('READDIRPLUS', () => {
  it('says nothing about the nodes of "." and "..", as the kernel demands', () => {
    expect(list(READDIRPLUS, FOLDER_NODE, 0, 320)).toEqual([
      { name: '.', ino: 3, type: 4, cookie: 1, node: 0 },
      { name: '..', ino: 1, type: 4, cookie: 2, node: 0 },
    ]);
  });

  it('says about other entries what LOOKUP says', () => {
    const reply = ask(fileSystem, request(READDIRPLUS, 1, readBody(2, 160)));
    const looked = ask(fileSystem, request(1, 1, Buffer.from('disk.raw\0')));
    expect(reply?.subarray(16, 16 + 128)).toEqual(looked?.subarray(16));
    expect(reply?.length).toBe(16 + 160);
  });

  it('lists a node whose attributes fail without them, and the others as well', () => {
    expect(list(READDIRPLUS, FOLDER_NODE, 2, 4096)).toEqual([
      { name: 'info.json', ino: 5, type: 8, cookie: 6, node: 5 },
      { name: 'broken', ino: 6, type: 8, cookie: 7, node: 0 },
      { name: 'damaged', ino: 7, type: 8, cookie: 8, node: 7 },
    ]);
  });
});
