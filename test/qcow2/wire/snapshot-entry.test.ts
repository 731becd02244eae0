import { expect, test } from 'vitest';
import { decodeSnapshotEntry } from '../../../src/qcow2/wire/snapshot-entry.ts';

/** Written by hand from the table in docs/interop/qcow2.txt. */
const FIXED = [
  '0000000000180000', // l1_table_offset
  '00000002', // l1_size
  '0002', // id_str_size
  '0006', // name_size
  '6a190420', // date_sec
  '0000007b', // date_nsec
  '0000000012345678', // vm_clock_nsec
  '00000400', // vm_state_size
];
const ID_AND_NAME = Buffer.from('12monday').toString('hex');
const VM_STATE_LARGE = '0000000200000000';
const DISK_SIZE = '0000000004000000';
const ICOUNT = '00000000000000ff';
const NO_ICOUNT = 'ffffffffffffffff';

function entry(extra: string): Buffer {
  const extraSize = (extra.length / 2).toString(16).padStart(8, '0');
  return Buffer.from(FIXED.join('') + extraSize + extra + ID_AND_NAME, 'hex');
}

test('the fixed fields, id and name of an entry without extra data', () => {
  expect(decodeSnapshotEntry(entry(''))).toEqual({
    l1TableOffset: 0x180000,
    l1Size: 2,
    id: '12',
    name: 'monday',
    dateSeconds: 0x6a190420,
    dateNanoseconds: 123,
    vmClockNanoseconds: 0x12345678n,
    vmStateBytes: 0x400,
    diskSizeBytes: undefined,
    icount: undefined,
  });
});

test.each([
  [
    '8 bytes: a 64-bit VM state size',
    VM_STATE_LARGE,
    { vmStateBytes: 2 ** 33, diskSizeBytes: undefined, icount: undefined },
  ],
  ['16 bytes: the disk size too', VM_STATE_LARGE + DISK_SIZE, { diskSizeBytes: 64 * 1024 * 1024, icount: undefined }],
  ['24 bytes: icount too', VM_STATE_LARGE + DISK_SIZE + ICOUNT, { diskSizeBytes: 64 * 1024 * 1024, icount: 255n }],
  ['an icount of all ones is none', VM_STATE_LARGE + DISK_SIZE + NO_ICOUNT, { icount: undefined }],
  [
    'what is not known behind it is skipped',
    `${VM_STATE_LARGE + DISK_SIZE + ICOUNT}ee`,
    { icount: 255n, id: '12', name: 'monday' },
  ],
])('extra data of %s', (_, extra, expected) => {
  expect(decodeSnapshotEntry(entry(extra))).toMatchObject(expected);
});

test('a name is bytes, not text', () => {
  const bytes = entry('');
  bytes.writeUInt8(0xff, bytes.length - 1);
  expect(decodeSnapshotEntry(bytes).name).toBe('monda\xff');
});
