/** Lists of locks, and of what a descriptor is, as text of the kernel. */

import { describe, expect, test } from 'vitest';
import { decodeDescriptorInfo } from '../../src/daemon/proc-identity.ts';
import { decodeLocks, isWriterLock } from '../../src/daemon/proc-locks.ts';

/** The line of an OFD lock of QEMU's on a range. */
function listed(range: string): string {
  return `1: OFDLCK ADVISORY  READ -1 fe:00:2147398 ${range}\n`;
}

describe('a list of locks', () => {
  test('has the device in decimal, the inode and the range of each', () => {
    const text = `1: OFDLCK ADVISORY  READ -1 fe:00:2147398 203 203
2: POSIX  ADVISORY  WRITE 1234 103:1a:18446744073709551615 0 EOF
`;
    expect(decodeLocks(text)).toEqual([
      { superblock: '254:0', inode: 2147398n, from: 203, to: 203 },
      { superblock: '259:26', inode: 18446744073709551615n, from: 0, to: Number.POSITIVE_INFINITY },
    ]);
  });

  test('has a signed inode number before Linux 5.5', () => {
    expect(decodeLocks('1: OFDLCK ADVISORY  READ -1 00:2d:-2 100 101\n')[0]?.inode).toBe(2n ** 64n - 2n);
  });

  test.each([
    ['waits', '7: -> OFDLCK ADVISORY  READ -1 fe:00:2147398 100 101'],
    ['waits for one that waits', '7:  -> OFDLCK ADVISORY  READ -1 fe:00:2147398 100 101'],
    ['is on the whole file', '1: FLOCK  ADVISORY  WRITE 912 fe:00:2147398 0 EOF'],
    ['is a lease', '1: LEASE  ACTIVE    READ  912 fe:00:2147398 0 EOF'],
    ['is a delegation', '1: DELEG  ACTIVE    READ  912 fe:00:2147398 0 EOF'],
    ['is on no inode', '1: OFDLCK ADVISORY  READ -1 <none>:0 100 101'],
    ['is cut', '1: OFDLCK ADVISORY  READ -1 fe:00:2147398 100'],
  ])('leaves out what %s', (_, line) => {
    expect(decodeLocks(`${line}\n${listed('5 5')}`)).toEqual([
      { superblock: '254:0', inode: 2147398n, from: 5, to: 5 },
    ]);
  });

  test('may be empty', () => expect(decodeLocks('')).toEqual([]));
});

describe('a lock', () => {
  test.each(['100 101', '101 101', '103 103', '100 103', '101 104'])('on bytes %s is a writer’s', (range) => {
    expect(decodeLocks(listed(range)).map(isWriterLock)).toEqual([true]);
  });

  test.each(['100 100', '102 102', '104 104', '201 201', '203 203', '0 0', '0 EOF', '101 EOF', '0 101', '101 201'])(
    'on bytes %s is not',
    (range) => {
      expect(decodeLocks(listed(range)).map(isWriterLock)).toEqual([false]);
    },
  );
});

describe('what fdinfo tells', () => {
  const text = 'pos:\t0\nflags:\t02100002\nmnt_id:\t27\nino:\t2147398\n';

  test('is the mount, the inode and the locks of a writer', () => {
    expect(decodeDescriptorInfo(`${text}lock:\t${listed('100 101')}lock:\t${listed('201 201')}`)).toEqual({
      isWritable: true,
      mountId: 27,
      inode: 2147398n,
      writerLocks: [{ superblock: '254:0', inode: 2147398n, from: 100, to: 101 }],
    });
  });

  test('has no inode before Linux 5.14', () => {
    const old = decodeDescriptorInfo(text.replace(/ino.*\n/, ''));
    expect(old).toEqual({ isWritable: true, mountId: 27, inode: undefined, writerLocks: [] });
  });

  test.each([
    ['0100000', false],
    ['0100001', true],
    ['02100002', true],
    ['0102003', false],
    ['012000000', false],
  ])('says with flags %s that the descriptor can write: %s', (flags, isWritable) => {
    expect(decodeDescriptorInfo(text.replace('02100002', flags))?.isWritable).toBe(isWritable);
  });

  test('may be nothing at all', () => expect(decodeDescriptorInfo('')).toBeUndefined());
});
