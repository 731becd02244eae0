import { expect, test } from 'vitest';
import { decodeHeader, encodeHeader } from '../../../src/qcow2/wire/header.ts';
import { catchError } from '../../support/catch-error.ts';

/** Written by hand from the table in docs/interop/qcow2.txt; every field has a value of its own. */
const V3_HEADER = Buffer.from(
  [
    '514649fb', // magic
    '00000003', // version
    '0000000000000200', // backing_file_offset
    '0000000b', // backing_file_size
    '0000000c', // cluster_bits
    '0000001234567800', // size
    '00000001', // crypt_method
    '00000456', // l1_size
    '0000000000030000', // l1_table_offset
    '0000000000010000', // refcount_table_offset
    '00000002', // refcount_table_clusters
    '00000007', // nb_snapshots
    '0000000000050000', // snapshots_offset
    '8000000000000018', // incompatible_features
    '0000000000000001', // compatible_features
    '0000000000000003', // autoclear_features
    '00000005', // refcount_order
    '00000070', // header_length
    '0100000000000000', // compression_type, padding
  ].join(''),
  'hex',
);

test('every field of a version 3 header is taken from its place', () => {
  expect(decodeHeader(V3_HEADER)).toEqual({
    version: 3,
    backingFileOffset: 0x200,
    backingFileSize: 11,
    clusterBits: 12,
    size: 0x12_3456_7800,
    cryptMethod: 1,
    l1Size: 0x456,
    l1TableOffset: 0x30000,
    refcountTableOffset: 0x10000,
    refcountTableClusters: 2,
    snapshotCount: 7,
    snapshotsOffset: 0x50000,
    incompatibleFeatures: 0x8000_0000_0000_0018n,
    compatibleFeatures: 1n,
    autoclearFeatures: 3n,
    refcountOrder: 5,
    headerLength: 112,
    compressionType: 1,
  });
});

test('a version 2 header ends after 72 bytes and has the values the specification assumes', () => {
  const header = Buffer.from(V3_HEADER.subarray(0, 72));
  header.writeUInt32BE(2, 4);
  expect(decodeHeader(header)).toMatchObject({
    incompatibleFeatures: 0n,
    compatibleFeatures: 0n,
    autoclearFeatures: 0n,
    refcountOrder: 4,
    headerLength: 72,
    compressionType: 0,
  });
});

test('a header of 104 bytes has no compression type, whatever follows it', () => {
  const header = Buffer.from(V3_HEADER);
  header.writeUInt32BE(104, 100);
  expect(decodeHeader(header).compressionType).toBe(0);
});

test('a size above 2^53 - 1 is damage, not a rounded number', () => {
  const header = Buffer.from(V3_HEADER);
  header.writeBigUInt64BE(1n << 53n, 24);
  const error = catchError(() => decodeHeader(header));
  expect(error.code).toBe('DAMAGED');
  expect(error.message).toContain('header field size is 9007199254740992');
});

test('a header is encoded into the 104 bytes that every version 3 has', () => {
  const expected = Buffer.from(V3_HEADER.subarray(0, 104));
  expected.writeUInt32BE(104, 100);
  expect(encodeHeader(decodeHeader(V3_HEADER)).toString('hex')).toBe(expected.toString('hex'));
});
