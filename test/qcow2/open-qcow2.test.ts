import { expect, test } from 'vitest';
import { openQcow2 } from '../../src/qcow2/open-qcow2.ts';
import { refuseUnsupportedFeatures } from '../../src/qcow2/unsupported-features.ts';
import { BufferStorage } from '../../src/storage/buffer-storage.ts';
import { buildImage, encodeHeader, type HeaderFields } from '../fixtures/image-builder.ts';
import { catchError } from '../support/catch-error.ts';

const MIB = 1 << 20;

function open(fields: Partial<HeaderFields>, parts: readonly (readonly [number, Buffer])[] = []) {
  return openQcow2(new BufferStorage(buildImage(MIB, [[0, encodeHeader(fields)], ...parts]), 'disk.qcow2'));
}

test.each<[string, Partial<HeaderFields>]>([
  ['cluster_bits', { clusterBits: 8 }],
  ['cluster_bits', { clusterBits: 22 }],
  ['cluster_bits', { clusterBits: 13, incompatibleFeatures: 16n }],
  ['header_length', { headerLength: 103 }],
  ['header_length', { headerLength: 65537 }],
  ['refcount_order', { refcountOrder: 7 }],
  ['refcount_table_clusters', { refcountTableClusters: 129 }],
  ['backing_file_offset', { backingFileOffset: 65536n, backingFileSize: 4 }],
  ['backing_file_size', { backingFileOffset: 200n, backingFileSize: 1024 }],
  ['compression_type', { compressionType: 1 }],
  ['compression_type', { incompatibleFeatures: 8n }],
])('a bad %s is refused by its name (%o)', (field, fields) => {
  const error = catchError(() => open(fields));
  expect(error.code).toBe('DAMAGED');
  expect(error.message).toMatch(/^disk\.qcow2: /);
  expect(error.message).toContain(field);
});

test.each([
  ['an empty file', Buffer.alloc(0), 'NOT_QCOW2', ' is not a qcow2 image: it is empty'],
  ['some text', Buffer.from('hello'), 'NOT_QCOW2', ' is not a qcow2 image: it does not start with "QFI\\xfb"'],
  [
    'version 1',
    encodeHeader({ version: 1 }),
    'NOT_QCOW2',
    ' is not a qcow2 image: qcow version 1, which `qemu-img convert -O qcow2` converts',
  ],
  [
    'version 4',
    encodeHeader({ version: 4 }),
    'NOT_QCOW2',
    ' is not a qcow2 image: qcow version 4, but only 2 and 3 are known',
  ],
  [
    'a file that ends inside the header',
    encodeHeader().subarray(0, 100),
    'PAST_END',
    ': the file ends inside the header, after 100 bytes',
  ],
  [
    'a VHD image of fixed size, which ends with what others begin with',
    Buffer.concat([Buffer.alloc(510), Buffer.from('55aa', 'hex'), Buffer.from('conectix'.padEnd(512, '\0'))]),
    'NOT_QCOW2',
    ' is not a qcow2 image: it looks like a VHD image',
  ],
])('%s is not opened', (_, bytes, code, message) => {
  const error = catchError(() => openQcow2(new BufferStorage(Buffer.from(bytes), 'disk')));
  expect([error.code, error.message]).toEqual([code, `disk${message}`]);
});

test('the virtual size is rounded down to a sector', () => {
  expect(open({ size: 1000n }).sizeBytes).toBe(512);
});

test('the backing file name and its format are read', () => {
  const format = Buffer.from('e2792aca000000037261770000000000', 'hex');
  const file = open({ backingFileOffset: 512n, backingFileSize: 8 }, [
    [112, format],
    [512, Buffer.from('base.img')],
  ]);
  expect(file).toMatchObject({ backingName: 'base.img', backingFormat: 'raw' });
});

test('an unknown incompatible feature is refused by the name that the image gives it', () => {
  const table = Buffer.alloc(8 + 48);
  table.writeUInt32BE(0x6803f857, 0);
  table.writeUInt32BE(48, 4);
  table.write('\x00\x29time travel', 8, 'latin1');
  const error = catchError(() =>
    refuseUnsupportedFeatures('disk.qcow2', open({ incompatibleFeatures: 1n << 41n }, [[112, table]])),
  );
  expect(error.code).toBe('UNSUPPORTED');
  expect(error.message).toContain('"time travel" (bit 41)');
});

test.each<[string, Partial<HeaderFields>]>([
  ['encryption method 3', { cryptMethod: 3 }],
  ['(bit 63)', { incompatibleFeatures: 1n << 63n }],
])('an image with %s is refused by name', (name, fields) => {
  expect(catchError(() => refuseUnsupportedFeatures('disk.qcow2', open(fields))).message).toContain(name);
});

test('dirty and corrupt images are not refused: their mappings are valid', () => {
  expect(() => refuseUnsupportedFeatures('disk.qcow2', open({ incompatibleFeatures: 3n }))).not.toThrow();
});
