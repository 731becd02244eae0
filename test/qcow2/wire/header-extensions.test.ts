import { expect, test } from 'vitest';
import {
  decodeFeatureNames,
  decodeHeaderExtensions,
  encodeHeaderExtensions,
  QCOW2_EXT_MAGIC_BACKING_FORMAT,
} from '../../../src/qcow2/wire/header-extensions.ts';

const RAW_BACKING = Buffer.from(
  'e2792aca' + // type: backing file format name
    '00000003' + // length
    '7261770000000000', // "raw", padded to 8
  'hex',
);

test('extensions follow each other padded to 8 bytes, until type 0', () => {
  const area = Buffer.concat([
    RAW_BACKING,
    Buffer.from('12345678000000020102000000000000', 'hex'),
    Buffer.alloc(8),
    RAW_BACKING,
  ]);
  const { extensions, isComplete } = decodeHeaderExtensions(area);
  expect(isComplete).toBe(true);
  expect(extensions.map(({ type }) => type)).toEqual([QCOW2_EXT_MAGIC_BACKING_FORMAT, 0x12345678]);
  expect(extensions[0]?.data.toString()).toBe('raw');
  expect(extensions[1]?.data).toEqual(Buffer.from([1, 2]));
});

test('an extension that runs past the area ends the list and is told', () => {
  const { extensions, isComplete } = decodeHeaderExtensions(
    Buffer.concat([RAW_BACKING, Buffer.from('12345678ffffffff', 'hex')]),
  );
  expect(extensions).toHaveLength(1);
  expect(isComplete).toBe(false);
});

test('a row of the feature name table has kind, bit and a name that NUL ends', () => {
  const row = Buffer.alloc(48);
  row.write('\x00\x04extended L2', 'latin1');
  const other = Buffer.alloc(48, 'x');
  other.writeUInt8(2, 0);
  other.writeUInt8(63, 1);
  expect(decodeFeatureNames(Buffer.concat([row, other, Buffer.alloc(47)]))).toEqual([
    { kind: 'incompatible', bit: 4, name: 'extended L2' },
    { kind: 'autoclear', bit: 63, name: 'x'.repeat(46) },
  ]);
});

test('extensions are encoded padded to 8 bytes, with the end', () => {
  const extensions = [{ type: QCOW2_EXT_MAGIC_BACKING_FORMAT, data: Buffer.from('raw') }];
  expect(encodeHeaderExtensions(extensions)).toEqual(Buffer.concat([RAW_BACKING, Buffer.alloc(8)]));
});
