import { expect, test } from 'vitest';
import {
  decodeFeatureNames,
  encodeHeaderExtensions,
  QCOW2_EXT_MAGIC_BACKING_FORMAT,
} from '../../../src/qcow2/wire/header-extensions.ts';

const RAW_BACKING = Buffer.from(
  'e2792aca' + // type: backing file format name
    '00000003' + // length
    '7261770000000000', // "raw", padded to 8
  'hex',
);

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

test('of the names of one bit the first one counts, and a row without a name ends the table', () => {
  const row = (kind: number, bit: number, name: string) => {
    const bytes = Buffer.alloc(48);
    bytes.write(name, 2, 'latin1');
    return Buffer.concat([Buffer.from([kind, bit]), bytes.subarray(2)]);
  };
  const rows = [
    row(0, 4, 'first'),
    row(0, 4, 'second'),
    row(3, 4, 'no kind'),
    row(0, 64, 'no bit'),
    row(1, 4, 'other'),
  ];
  expect(decodeFeatureNames(Buffer.concat([...rows, row(0, 5, ''), row(0, 6, 'behind the end')]))).toEqual([
    { kind: 'incompatible', bit: 4, name: 'first' },
    { kind: 'compatible', bit: 4, name: 'other' },
  ]);
});

test('a table of two million bytes has a name for each bit at most', () => {
  const table = Buffer.alloc(48 * 43_690, 'x');
  for (let index = 0; index < 43_690; index++) table.writeUInt16BE(index & 0x3ff, index * 48);
  expect(decodeFeatureNames(table).length).toBeLessThanOrEqual(3 * 64);
});

test('extensions are encoded padded to 8 bytes, with the end', () => {
  const extensions = [{ type: QCOW2_EXT_MAGIC_BACKING_FORMAT, data: Buffer.from('raw') }];
  expect(encodeHeaderExtensions(extensions)).toEqual(Buffer.concat([RAW_BACKING, Buffer.alloc(8)]));
});
