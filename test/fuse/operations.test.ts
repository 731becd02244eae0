import { describe, expect, it } from 'vitest';
import { operationOf } from '../../src/fuse/operations.ts';
import { OPCODE } from '../../src/fuse/wire/opcodes.ts';
import { MemoryFileSystem } from './memory-file-system.ts';
import { ask, bytes, errnoOf, replyHeader, request } from './wire-bytes.ts';

const fileSystem = new MemoryFileSystem();
const EROFS = 30;
const ENOSYS = 38;
const ENOTTY = 25;

/** Enough for every operation. */
const BODY = Buffer.alloc(96);

describe('operations that get no reply', () => {
  it.each([
    [
      'FORGET',
      `
      30 00 00 00              len 48
      02 00 00 00              opcode FORGET
      ff ee dd cc bb aa 99 88  unique
      02 00 00 00 00 00 00 00  nodeid
      00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
      01 00 00 00 00 00 00 00  nlookup
      `,
    ],
    [
      'BATCH_FORGET',
      `
      40 00 00 00              len 64
      2a 00 00 00              opcode BATCH_FORGET
      ff ee dd cc bb aa 99 88  unique
      00 00 00 00 00 00 00 00  nodeid
      00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
      01 00 00 00 00 00 00 00  count
      02 00 00 00 00 00 00 00  nodeid
      01 00 00 00 00 00 00 00  nlookup
      `,
    ],
    [
      'INTERRUPT',
      `
      30 00 00 00              len 48
      24 00 00 00              opcode INTERRUPT
      05 00 00 00 00 00 00 00  unique
      00 00 00 00 00 00 00 00  nodeid
      00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
      04 00 00 00 00 00 00 00  unique of the target
      `,
    ],
  ])('%s gets none, not even when it is cut', (_, text) => {
    const whole = bytes(text);
    expect(ask(fileSystem, whole)).toBeUndefined();
    expect(ask(fileSystem, whole.subarray(0, 41))).toBeUndefined();
  });
});

describe('operations that succeed without doing anything', () => {
  it.each(['RELEASE', 'RELEASEDIR', 'DESTROY'] as const)('%s', (name) => {
    expect(ask(fileSystem, request(OPCODE[`FUSE_${name}`], 2, BODY))).toEqual(replyHeader(16));
  });
});

describe('operations that the kernel does without', () => {
  it.each([
    'ACCESS',
    'FLUSH',
    'FSYNC',
    'FSYNCDIR',
    'POLL',
    'BMAP',
    'COPY_FILE_RANGE',
    'SYNCFS',
    'GETLK',
    'SETLK',
    'SETLKW',
    'SETUPMAPPING',
    'REMOVEMAPPING',
    'NOTIFY_REPLY',
  ] as const)('%s is ENOSYS', (name) => {
    expect(ask(fileSystem, request(OPCODE[`FUSE_${name}`], 2, BODY))).toEqual(replyHeader(16, -ENOSYS));
  });

  it.each([0, 7, 19, 53, 4096, 0x1a000000, 0xffffffff])('opcode %i, which is unknown, is ENOSYS', (opcode) => {
    expect(ask(fileSystem, request(opcode, 2, BODY))).toEqual(replyHeader(16, -ENOSYS));
  });
});

describe('operations that would change something', () => {
  it.each([
    'SETATTR',
    'SYMLINK',
    'MKNOD',
    'MKDIR',
    'UNLINK',
    'RMDIR',
    'RENAME',
    'RENAME2',
    'LINK',
    'WRITE',
    'SETXATTR',
    'REMOVEXATTR',
    'CREATE',
    'FALLOCATE',
    'TMPFILE',
  ] as const)('%s is EROFS', (name) => {
    expect(ask(fileSystem, request(OPCODE[`FUSE_${name}`], 2, BODY))).toEqual(replyHeader(16, -EROFS));
  });
});

describe('IOCTL', () => {
  it('is ENOTTY', () => {
    expect(errnoOf(ask(fileSystem, request(OPCODE.FUSE_IOCTL, 2, BODY)))).toBe(ENOTTY);
  });
});

describe('every operation', () => {
  const operations = Object.values(OPCODE).flatMap((opcode) => operationOf(opcode) ?? []);

  it('has the name of its opcode', () => {
    for (const { name, opcode } of operations) expect(OPCODE[`FUSE_${name}` as keyof typeof OPCODE]).toBe(opcode);
    expect(operations.length).toBeGreaterThan(40);
  });

  it('is EINVAL when its body is too short', () => {
    for (const { opcode, minimalBodyBytes, hasReply } of operations) {
      if (minimalBodyBytes === 0 || !hasReply) continue;
      const reply = ask(fileSystem, request(opcode, 2, Buffer.alloc(minimalBodyBytes - 1)));
      expect(reply).toEqual(replyHeader(16, -22));
    }
  });
});
