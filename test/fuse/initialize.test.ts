import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { MemoryFileSystem } from './memory-file-system.ts';
import {
  ask,
  askExchange,
  bytes,
  collectWarnings,
  errnoOf,
  makeExchange,
  replyHeader,
  request,
  u32,
} from './wire-bytes.ts';

const INIT = 26;
const EPROTO = 71;
const fileSystem = new MemoryFileSystem();

function initBody(major: number, minor: number, flags: number, flags2 = 0): Buffer {
  return Buffer.concat([u32(major, minor, 0x20000, flags, flags2), Buffer.alloc(44)]);
}

beforeEach(() => {
  collectWarnings();
});
afterEach(() => {
  vi.restoreAllMocks();
});

describe('INIT', () => {
  it('answers a kernel of 7.45 with the features that both sides have', () => {
    const asked = bytes(`
      68 00 00 00              len 104
      1a 00 00 00              opcode INIT
      02 00 00 00 00 00 00 80  unique
      00 00 00 00 00 00 00 00  nodeid
      00 00 00 00 00 00 00 00 00 00 00 00  uid gid pid
      00 00 00 00              total_extlen, padding
      07 00 00 00              major
      2d 00 00 00              minor 45
      00 00 02 00              max_readahead 128 KiB
      fb ff ff 73              flags
      fd 05 00 00              flags2
      00 00 00 00 00 00 00 00 00 00 00
      00 00 00 00 00 00 00 00 00 00 00
      00 00 00 00 00 00 00 00 00 00 00
      00 00 00 00 00 00 00 00 00 00 00
    `);
    expect(ask(fileSystem, asked)).toEqual(
      bytes(`
        50 00 00 00              len 80
        00 00 00 00              error
        02 00 00 00 00 00 00 80  unique
        07 00 00 00              major
        2d 00 00 00              minor
        00 00 02 00              max_readahead as offered
        01 e0 e4 40              flags: 0, 13, 14, 15, 18, 21, 22, 23, 30
        40 00                    max_background 64
        30 00                    congestion_threshold 48
        00 10 00 00              max_write 4096
        01 00 00 00              time_gran 1 ns
        40 00                    max_pages 64
        00 00                    map_alignment
        10 00 00 00              flags2: DIRECT_IO_ALLOW_MMAP
        00 00 00 00              max_stack_depth
        00 00 00 00 00 00 00 00 00 00 00 00
        00 00 00 00 00 00 00 00 00 00 00 00
      `),
    );
  });

  it('never sets AUTO_INVAL_DATA, which would ask for attributes on every read', () => {
    const reply = ask(fileSystem, request(INIT, 0, initBody(7, 45, 0xffffffff, 0xffffffff)));
    expect((reply?.readUInt32LE(16 + 12) ?? 0) & (1 << 12)).toBe(0);
  });

  it('gives back only flags that the kernel offered', () => {
    const reply = ask(fileSystem, request(INIT, 0, initBody(7, 31, 0x00400001)));
    expect(reply?.readUInt32LE(16 + 12)).toBe(0x00400001);
    expect(reply?.readUInt32LE(16 + 32)).toBe(0);
  });

  it('looks at flags2 only with INIT_EXT', () => {
    const reply = ask(fileSystem, request(INIT, 0, initBody(7, 45, 0x00000001, 0xffffffff)));
    expect(reply?.readUInt32LE(16 + 32)).toBe(0);
  });

  it('takes the 16 bytes of a kernel before 7.36', () => {
    const reply = ask(fileSystem, request(INIT, 0, u32(7, 23, 0x20000, 0x1)));
    expect(reply?.length).toBe(80);
    expect(reply?.readUInt32LE(16 + 4)).toBe(23);
  });

  it('does not claim a minor version above 7.45', () => {
    const reply = ask(fileSystem, request(INIT, 0, initBody(7, 99, 0x1)));
    expect(reply?.readUInt32LE(16 + 4)).toBe(45);
  });

  it('answers a newer major version with its own, and waits for the next INIT', () => {
    const exchange = makeExchange(fileSystem);
    const reply = askExchange(exchange, request(INIT, 0, u32(8, 0)));
    expect(reply?.subarray(0, 24)).toEqual(Buffer.concat([replyHeader(80), u32(7, 45)]));
    expect(exchange.initialization).toBe('none');
  });

  it.each([
    ['7.22', 7, 22],
    ['6.45', 6, 45],
  ])('refuses a kernel of %s with EPROTO', (_, major, minor) => {
    const exchange = makeExchange(fileSystem);
    const reply = askExchange(exchange, request(INIT, 0, initBody(major, minor, 0x1)));
    expect(reply).toEqual(replyHeader(16, -EPROTO));
    expect(exchange.initialization).toBe('refused');
  });

  it('tells its loop that the mount works', () => {
    const exchange = makeExchange(fileSystem);
    askExchange(exchange, request(INIT, 0, initBody(7, 45, 0x1)));
    expect(exchange.initialization).toBe('accepted');
  });

  it('is EINVAL when even the version is cut off', () => {
    expect(errnoOf(ask(fileSystem, request(INIT, 0, u32(7))))).toBe(22);
  });
});
