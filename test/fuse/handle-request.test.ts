import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Qcow2fsError } from '../../src/errors.ts';
import { OPCODE } from '../../src/fuse/wire/opcodes.ts';
import { MemoryFileSystem } from './memory-file-system.ts';
import { ask, askExchange, collectWarnings, errnoOf, makeExchange, replyHeader, request, u32 } from './wire-bytes.ts';

const fileSystem = new MemoryFileSystem();

beforeEach(() => {
  collectWarnings();
});
afterEach(() => {
  vi.restoreAllMocks();
});

describe('a malformed request', () => {
  it('gets no reply when it has no whole header', () => {
    for (let length = 0; length < 40; length++) {
      expect(ask(fileSystem, request(OPCODE.FUSE_STATFS, 1).subarray(0, length))).toBeUndefined();
    }
  });

  it('is EINVAL when its length is not the one in its header', () => {
    const whole = request(OPCODE.FUSE_STATFS, 1);
    expect(ask(fileSystem, Buffer.concat([whole, u32(0)]))).toEqual(replyHeader(16, -22));
    whole.writeUInt32LE(39, 0);
    expect(ask(fileSystem, whole)).toEqual(replyHeader(16, -22));
  });
});

describe('a request that fails', () => {
  class Failing extends MemoryFileSystem {
    readonly error: unknown;
    constructor(error: unknown) {
      super();
      this.error = error;
    }
    override attributes(): never {
      throw this.error;
    }
  }
  const failWith = (error: unknown) => ask(new Failing(error), request(OPCODE.FUSE_GETATTR, 1, Buffer.alloc(16)));

  it('leaves its reason in the log, once', () => {
    const warnings = collectWarnings();
    for (let round = 0; round < 3; round++) failWith(new Qcow2fsError('DAMAGED', 'cluster 17 is damaged'));
    expect(warnings).toEqual(['qcow2fs: cluster 17 is damaged\n']);
  });

  it('is told as a bug when it is one, and answered with EIO', () => {
    const warnings = collectWarnings();
    expect(errnoOf(failWith(new RangeError('too far')))).toBe(5);
    expect(errnoOf(failWith('no error at all'))).toBe(5);
    expect(warnings).toEqual([
      'qcow2fs: GETATTR failed unexpectedly: too far\n',
      'qcow2fs: GETATTR failed unexpectedly: no error at all\n',
    ]);
  });

  it('is not worth a line when the node is just gone', () => {
    const warnings = collectWarnings();
    expect(errnoOf(failWith(new Qcow2fsError('NOT_FOUND', 'no node 1')))).toBe(116);
    expect(warnings).toEqual([]);
  });
});

describe('an exchange', () => {
  it('shows nothing of one request in the reply to the next', () => {
    const exchange = makeExchange(fileSystem);
    exchange.reply.fill(0xff);
    const opcodes = [OPCODE.FUSE_GETATTR, OPCODE.FUSE_STATX, OPCODE.FUSE_STATFS, OPCODE.FUSE_OPENDIR];
    for (const opcode of opcodes) {
      const asked = request(opcode, 1, Buffer.alloc(24));
      exchange.reply.fill(0xff);
      expect(askExchange(exchange, asked)).toEqual(ask(fileSystem, asked));
    }
  });

  it('does not take the end of a former request for part of a shorter one', () => {
    const exchange = makeExchange(fileSystem);
    askExchange(exchange, request(OPCODE.FUSE_LOOKUP, 1, Buffer.from('disk.raw\0')));
    const cut = request(OPCODE.FUSE_LOOKUP, 1, Buffer.from('disk'));
    expect(errnoOf(askExchange(exchange, cut))).toBe(22);
  });
});

describe('random bytes', () => {
  /** xorshift32: the same requests on every run. */
  function randomNumbers(seed: number): () => number {
    let state = seed;
    return () => {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      return state >>> 0;
    };
  }

  it('never throw and always get a well-formed reply or none', () => {
    const random = randomNumbers(0x5eed);
    const exchange = makeExchange(fileSystem, { replyBodyBytes: 64 * 1024 });
    for (let round = 0; round < 50_000; round++) {
      const length = random() % 200;
      const bytes = Buffer.alloc(length);
      for (let index = 0; index < length; index++) bytes[index] = random();
      // Most rounds get behind the header, to handlers with values that are nearly right.
      if (length >= 40 && round % 8 !== 0) {
        bytes.writeUInt32LE(length, 0);
        bytes.writeUInt32LE(random() % 56, 4);
        if (round % 3 !== 0) bytes.writeBigUInt64LE(BigInt(random() % 9), 16);
        if (length >= 64 && round % 2 !== 0) bytes.fill(0, 52, 60);
      }
      const reply = askExchange(exchange, bytes);
      if (reply === undefined) continue;
      expect(reply.readUInt32LE(0)).toBe(reply.length);
      expect(reply.subarray(8, 16)).toEqual(bytes.subarray(8, 16));
      const error = reply.readInt32LE(4);
      expect(error).toBeLessThanOrEqual(0);
      expect(error).toBeGreaterThan(-512);
      if (error !== 0) expect(reply.length).toBe(16);
    }
  });
});
