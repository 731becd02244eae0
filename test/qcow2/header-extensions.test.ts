/** However many header extensions there are, and however large, little is kept of them. */

import fs from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { MAX_EXTENSION_DATA_BYTES, readExtensions } from '../../src/qcow2/header-extensions.ts';
import { openQcow2 } from '../../src/qcow2/open-qcow2.ts';
import { buildImage, encodeHeader, type HeaderFields } from '../fixtures/image-builder.ts';
import { CountingStorage } from '../support/counting-storage.ts';
import { QCOW2FS } from '../support/mounted-image.ts';
import { tryCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

const PEAK_MEMORY = fileURLToPath(new URL('../support/peak-memory.mjs', import.meta.url));
/** 62 MiB of it are Node.js. */
const MAX_RESIDENT_KIB = 128 * 1024;
const CLUSTER_BITS = 21;
const CLUSTER_BYTES = 1 << CLUSTER_BITS;
const HEADER_BYTES = 112;
const FEATURE_TABLE = 0x6803f857;
const DATA_FILE = 0x44415441;
const BACKING_FORMAT = 0xe2792aca;

/** An image whose first cluster is one header with `area` behind it. */
function open(area: Buffer, fields: Partial<HeaderFields> = {}) {
  const header = encodeHeader({ clusterBits: CLUSTER_BITS, ...fields });
  const storage = new CountingStorage(
    buildImage(CLUSTER_BYTES, [
      [0, header],
      [HEADER_BYTES, area],
    ]),
  );
  return openQcow2(storage);
}

function headOf(type: number, lengthBytes: number): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32BE(type, 0);
  head.writeUInt32BE(lengthBytes, 4);
  return head;
}

/** Rows for every kind and bit that a row can name, over and over. */
function featureTable(lengthBytes: number): Buffer {
  const table = Buffer.alloc(lengthBytes, 'x');
  for (let row = 0; (row + 1) * 48 <= lengthBytes; row++) table.writeUInt16BE((row * 7) & 0xffff, row * 48);
  return Buffer.concat([headOf(FEATURE_TABLE, lengthBytes), table]);
}

test('a cluster full of empty extensions of unknown types leaves nothing', () => {
  const area = Buffer.alloc(CLUSTER_BYTES - HEADER_BYTES);
  for (let offset = 0; offset + 8 <= area.length; offset += 8) area.writeUInt32BE(0x11111111, offset);
  const file = open(area);
  expect(readExtensions(file.storage, file.header, file.clusterBytes)).toEqual({ byType: new Map(), problems: [] });
});

test('of a cluster full of one type there is one', () => {
  const area = Buffer.alloc(CLUSTER_BYTES - HEADER_BYTES);
  for (let offset = 0; offset + 8 <= area.length; offset += 8) area.writeUInt32BE(BACKING_FORMAT, offset);
  const file = open(area);
  const { byType, problems } = readExtensions(file.storage, file.header, file.clusterBytes);
  expect([byType.size, problems]).toEqual([1, []]);
});

test('of a cluster full of extensions that are wrong in one way, the first one is told', () => {
  const area = Buffer.alloc(CLUSTER_BYTES - HEADER_BYTES);
  for (let offset = 0; offset + 24 <= area.length; offset += 24) headOf(BACKING_FORMAT, 16).copy(area, offset);
  expect(open(area).problems).toMatchObject([{ field: 'backing_format', offset: HEADER_BYTES }]);
});

test('a cluster full of feature names leaves one for each bit, and is not read to its end', () => {
  const file = open(featureTable(CLUSTER_BYTES - HEADER_BYTES - 8));
  expect(file.featureNames.length).toBeGreaterThan(0);
  expect(file.featureNames.length).toBeLessThanOrEqual(3 * 64);
  const { byType } = readExtensions(file.storage, file.header, file.clusterBytes);
  expect(byType.get(FEATURE_TABLE)?.data).toHaveLength(MAX_EXTENSION_DATA_BYTES);
  expect((file.storage as CountingStorage).bytesRead).toBeLessThan(64 * 1024);
});

test('the name of a data file that is longer than a path is none, unless a shorter one follows', () => {
  const nameOf = (length: number) => {
    const padded = Math.ceil(length / 8) * 8;
    return Buffer.concat([headOf(DATA_FILE, length), Buffer.alloc(length, 'x'), Buffer.alloc(padded - length)]);
  };
  const long = open(nameOf(4096));
  expect([long.dataFileName, long.problems]).toMatchObject([undefined, [{ field: 'data_file', offset: HEADER_BYTES }]]);
  for (const area of [nameOf(4095), Buffer.concat([nameOf(100_000), nameOf(4095)])]) {
    const file = open(area);
    expect([file.dataFileName, file.problems]).toEqual(['x'.repeat(4095), []]);
  }
});

test('an extension over the edge of what is read at once is whole', () => {
  for (const gap of [16_352, 16_360, 16_368, 16_376]) {
    const skipped = Buffer.concat([headOf(0x11111111, gap - 8), Buffer.alloc(gap - 8)]);
    const area = Buffer.concat([skipped, headOf(BACKING_FORMAT, 5), Buffer.from('qcow2\0\0\0')]);
    expect(open(area).backingFormat).toBe('qcow2');
  }
});

test('a chain of 64 images full of feature names is opened in little memory', () =>
  withTemporaryFolder((folder) => {
    const nameOffset = CLUSTER_BYTES - 1024;
    for (let index = 0; index < 64; index++) {
      const name = Buffer.from(`${index - 1}.qcow2`);
      const backing = index === 0 ? {} : { backingFileOffset: BigInt(nameOffset), backingFileSize: name.length };
      const format = Buffer.concat([headOf(BACKING_FORMAT, 5), Buffer.from('qcow2\0\0\0')]);
      const table = featureTable(nameOffset - HEADER_BYTES - format.length - 8);
      fs.writeFileSync(
        `${folder}/${index}.qcow2`,
        buildImage(CLUSTER_BYTES, [
          [0, encodeHeader({ clusterBits: CLUSTER_BITS, l1TableOffset: 0n, l1Size: 0, size: 0n, ...backing })],
          [HEADER_BYTES, Buffer.concat([format, table])],
          [nameOffset, name],
        ]),
      );
    }
    const report = `${folder}/peak`;
    const env = { NODE_OPTIONS: `--import=${PEAK_MEMORY}`, PEAK_MEMORY_FILE: report };
    const { status, stdout } = tryCommand(QCOW2FS, ['info', '--json', `${folder}/63.qcow2`], { env });
    expect([status, JSON.parse(stdout).chain.length]).toEqual([0, 64]);
    expect(Number(fs.readFileSync(report, 'utf8'))).toBeLessThan(MAX_RESIDENT_KIB);
  }));
