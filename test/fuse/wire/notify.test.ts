/** Bytes by include/uapi/linux/fuse.h: `struct fuse_out_header`, and behind it the struct of the message. */

import { expect, test } from 'vitest';
import { encodeInvalidateEntry, encodeInvalidateInode } from '../../../src/fuse/wire/notify.ts';
import { bytes } from '../wire-bytes.ts';

test('an inode is told with all its pages', () => {
  expect(encodeInvalidateInode(0x1f_ffff_0003_0001)).toEqual(
    bytes(`
      28 00 00 00              len 40
      02 00 00 00              error: FUSE_NOTIFY_INVAL_INODE
      00 00 00 00 00 00 00 00  unique 0: no reply
      01 00 03 00 ff ff 1f 00  ino
      00 00 00 00 00 00 00 00  off
      00 00 00 00 00 00 00 00  len: to the end
    `),
  );
});

test('an entry is told by its directory and its name as bytes, which ends with a NUL', () => {
  expect(encodeInvalidateEntry(0x1_0000_0002, 'gr\u00fcn')).toEqual(
    bytes(`
      25 00 00 00              len 37
      03 00 00 00              error: FUSE_NOTIFY_INVAL_ENTRY
      00 00 00 00 00 00 00 00  unique 0
      02 00 00 00 01 00 00 00  parent
      04 00 00 00              namelen, without the NUL
      00 00 00 00              flags
      67 72 fc 6e 00           "gr\\xfcn"
    `),
  );
});

test('a name may have all the 255 bytes that a name has', () => {
  const message = encodeInvalidateEntry(2, 'x'.repeat(255));
  expect(message.length).toBe(16 + 16 + 255 + 1);
  expect(message.readUInt32LE(0)).toBe(message.length);
  expect(message.readUInt32LE(24)).toBe(255);
  expect(message.at(-1)).toBe(0);
});
