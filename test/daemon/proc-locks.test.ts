/** Lists of locks, and of what a descriptor is, as text of the kernel. */

import { describe, expect, test } from 'vitest';
import { decodeDescriptorInfo, type ImageIdentity, isListedAs } from '../../src/daemon/proc-identity.ts';
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

describe('a listed lock may be one on the image', () => {
  /** As stat(1) and mountinfo gave them for a file on an ext4, and for one on an overlayfs over two file systems. */
  const onDisk = { superblock: '254:0', mountId: 27, inode: 2147398n, statDevice: 65024n, statInode: 2147398n };
  const onOverlay = { superblock: '0:41', mountId: 46, inode: 2146491n, statDevice: 43n, statInode: 2146491n };

  test.each<[string, ImageIdentity, string, boolean]>([
    ['on its superblock', onDisk, 'fe:00:2147398', true],
    ['on another inode', onDisk, 'fe:00:2147399', false],
    ['on another superblock', onDisk, 'fe:01:2147398', false],
    ['on its superblock, which stat does not tell', onOverlay, '00:29:2146491', true],
    ['on what stat tells, which is no superblock', onOverlay, '00:2b:2146491', false],
    ['on its disk, if its mount is not known', { ...onDisk, superblock: undefined }, 'fe:00:2147398', true],
    ['on another disk, if its mount is not known', { ...onDisk, superblock: undefined }, 'fe:01:2147398', false],
    ['on no disk, if its own is none', { ...onOverlay, superblock: undefined }, '00:29:2146491', true],
    ['on a disk, if its own is none', { ...onOverlay, superblock: undefined }, 'fe:00:2146491', false],
    ['on no disk, if its own is one', { ...onDisk, superblock: undefined }, '00:29:2147398', false],
  ])('%s', (_, image, file, expected) => {
    const locks = decodeLocks(`1: OFDLCK ADVISORY  READ -1 ${file} 100 101\n`);
    expect(locks.map((lock) => isListedAs(image, lock))).toEqual([expected]);
  });
});
