/** ZFS pool members. Debian main has no tool that makes one: the label is written here, from "ZFS On-Disk Specification". */

import fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import { withTemporaryFolder } from '../../support/temporary-folder.ts';
import { askBlkid, makeEmptyFile, nameOnly, probeFile } from './probing.ts';
import { MIB } from './recipes.ts';

const LABEL_BYTES = 256 * 1024;
const LIST_OFFSET = 16 * 1024;
const UBERBLOCKS_OFFSET = 128 * 1024;
const UBERBLOCK_MAGIC = 0x00bab10cn;

/** A pair of a name-value list in XDR; `value` with its type and count of elements. */
function pair(name: string, type: number, value: Buffer): Buffer {
  const padded = Buffer.alloc(Math.ceil(name.length / 4) * 4, `${name}\0\0\0`.slice(0, Math.ceil(name.length / 4) * 4));
  const head = Buffer.alloc(12);
  head.writeUInt32BE(12 + padded.length + 8 + value.length, 0);
  head.writeUInt32BE(64, 4);
  head.writeUInt32BE(name.length, 8);
  const kind = Buffer.alloc(8);
  kind.writeUInt32BE(type, 0);
  kind.writeUInt32BE(1, 4);
  return Buffer.concat([head, padded, kind, value]);
}

function uint64(name: string, value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value);
  return pair(name, 8, bytes);
}

function string(name: string, value: string): Buffer {
  const bytes = Buffer.alloc(4 + Math.ceil(value.length / 4) * 4);
  bytes.writeUInt32BE(value.length);
  bytes.write(value, 4, 'latin1');
  return pair(name, 9, bytes);
}

function list(pairs: readonly Buffer[]): Buffer {
  return Buffer.concat([Buffer.from([1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]), ...pairs, Buffer.alloc(8)]);
}

/** The four labels of a member, two at each end. */
function makeMember(folder: string, nameValueList: Buffer): string {
  const label = Buffer.alloc(LABEL_BYTES);
  nameValueList.copy(label, LIST_OFFSET);
  for (let index = 0; index < 128; index++) {
    label.writeBigUInt64LE(UBERBLOCK_MAGIC, UBERBLOCKS_OFFSET + index * 1024);
    label.writeBigUInt64LE(BigInt(index + 1), UBERBLOCKS_OFFSET + index * 1024 + 16);
  }
  const file = makeEmptyFile(folder, 64 * MIB);
  const fd = fs.openSync(file, 'r+');
  try {
    for (const offset of [0, LABEL_BYTES, 64 * MIB - 2 * LABEL_BYTES, 64 * MIB - LABEL_BYTES]) {
      fs.writeSync(fd, label, 0, label.length, offset);
    }
  } finally {
    fs.closeSync(fd);
  }
  return file;
}

/** A list within a list has no encoding of its own, and the same names as the outer one. */
const VDEV_TREE = pair('vdev_tree', 19, list([uint64('guid', 1n), string('name', 'inner')]).subarray(4));

const MEMBER = [
  uint64('version', 5000n),
  string('name', 'tank one'),
  uint64('state', 0n),
  uint64('txg', 4n),
  VDEV_TREE,
  uint64('pool_guid', 12345678901234567890n),
  uint64('guid', 9876543210987654321n),
];

describe('a ZFS pool member', () => {
  it('is told as libblkid tells it', () =>
    withTemporaryFolder((folder) => {
      const file = makeMember(folder, list(MEMBER));
      expect(nameOnly(probeFile(file))).toEqual({
        type: 'zfs_member',
        label: 'tank one',
        uuid: '12345678901234567890',
      });
      expect(nameOnly(probeFile(file))).toEqual(askBlkid(file));
    }));

  it.each([
    { title: 'no guid', pairs: MEMBER.slice(0, -1) },
    { title: 'a state that there is not', pairs: [...MEMBER, uint64('state', 8n)] },
    { title: 'no transaction group', pairs: MEMBER.filter((_, index) => index !== 3) },
  ])('is none with $title', ({ pairs }) =>
    withTemporaryFolder((folder) => {
      expect(probeFile(makeMember(folder, list(pairs)))).toEqual({ probe: undefined, problems: [] });
    }),
  );

  it.each([
    { field: 'size of a pair', offset: 12, value: 0xffff_ffff },
    { field: 'length of a name', offset: 20, value: 0xffff_ffff },
    { field: 'length of a name, beyond its pair', offset: 20, value: 64 },
  ])('is none where the $field is wrong', ({ offset, value }) =>
    withTemporaryFolder((folder) => {
      const bytes = list(MEMBER);
      bytes.writeUInt32BE(value, offset);
      expect(probeFile(makeMember(folder, bytes))).toEqual({ probe: undefined, problems: [] });
    }),
  );
});
