/** Compressed data that gives more or less than a cluster, or is followed by something else, beside QEMU. */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import zlib from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { createSharedBlockMemory } from '../../src/common/shared-block-cache.ts';
import { openQcow2 } from '../../src/qcow2/open-qcow2.ts';
import { Qcow2Image } from '../../src/qcow2/qcow2-image.ts';
import { BufferStorage } from '../../src/storage/buffer-storage.ts';
import { buildImage, encodeHeader, u64 } from '../fixtures/image-builder.ts';
import { catchError } from '../support/catch-error.ts';
import { runCommand, tryCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { Random } from './random.ts';

const SEED = Number(process.env.ORACLE_SEED ?? 1);
const COMPRESSED = 1n << 62n;

/** What is stored of one cluster, padded to whole sectors. */
interface Stored {
  readonly title: string;
  readonly bytes: Buffer;
}

/** An image whose cluster n is the n-th of `all`. */
function imageOf(all: readonly Stored[], clusterBits: number, compressionType: number): Buffer {
  const clusterBytes = 2 ** clusterBits;
  const header = encodeHeader({
    clusterBits,
    size: BigInt(all.length * clusterBytes),
    l1TableOffset: BigInt(3 * clusterBytes),
    refcountTableOffset: BigInt(clusterBytes),
    compressionType,
    incompatibleFeatures: compressionType === 0 ? 0n : 8n,
  });
  const parts: [number, Buffer][] = [
    [0, header],
    [3 * clusterBytes, u64(BigInt(4 * clusterBytes))],
  ];
  let offset = 5 * clusterBytes;
  for (const [index, { bytes }] of all.entries()) {
    const sectorCount = Math.max(1, Math.ceil(bytes.length / 512));
    const sectorsBehindFirst = BigInt(sectorCount - 1) << BigInt(62 - (clusterBits - 8));
    parts.push([4 * clusterBytes + index * 8, u64(COMPRESSED | sectorsBehindFirst | BigInt(offset))]);
    parts.push([offset, bytes]);
    offset += sectorCount * 512;
  }
  return buildImage(offset, parts);
}

/** Each of the first `count` clusters as QEMU reads it, undefined where that fails. */
function readByQemu(image: Buffer, count: number, clusterBytes: number): Promise<(Buffer | undefined)[]> {
  return withTemporaryFolder((folder) => {
    const [path, rawPath] = [`${folder}/disk.qcow2`, `${folder}/disk.raw`];
    fs.writeFileSync(path, image);
    const reads = Array.from({ length: count }, (_, index) => ['-c', `read ${index * clusterBytes} ${clusterBytes}`]);
    const told = tryCommand('qemu-io', ['-r', ...reads.flat(), path]).stdout.match(/^read (failed|\d).*/gm) ?? [];
    expect(told).toHaveLength(count);
    const isRead = told.map((line) => !line.startsWith('read failed'));
    // Without those that fail, it converts the others.
    const rest = Buffer.from(image);
    for (const [index, is] of isRead.entries()) if (!is) rest.writeBigUInt64BE(0n, 4 * clusterBytes + index * 8);
    fs.writeFileSync(path, rest);
    runCommand('qemu-img', ['convert', '-O', 'raw', path, rawPath]);
    const raw = fs.readFileSync(rawPath);
    return isRead.map((is, index) => (is ? raw.subarray(index * clusterBytes, (index + 1) * clusterBytes) : undefined));
  });
}

function readByUs(image: Buffer, clusterBytes: number): (Buffer | undefined)[] {
  const file = openQcow2(new BufferStorage(image));
  const clusterMemory = createSharedBlockMemory(clusterBytes, 1 << 22);
  const resources = { backing: undefined, depth: 0, clusterMemory, sliceCacheBytes: 1 << 16 };
  const disk = new Qcow2Image(file, resources).currentDisk();
  return Array.from({ length: disk.sizeBytes / clusterBytes }, (_, index) => {
    const cluster = Buffer.alloc(clusterBytes);
    try {
      disk.readAt(cluster, 0, index * clusterBytes, clusterBytes);
      return cluster;
    } catch {
      const error = catchError(() => disk.readAt(cluster, 0, index * clusterBytes, clusterBytes));
      expect(error.code).toBe('DAMAGED');
      return undefined;
    }
  });
}

/** Returns the titles of those that can be read. */
async function expectSameClusters(all: readonly Stored[], clusterBits: number, type: number): Promise<string[]> {
  const clusterBytes = 2 ** clusterBits;
  const image = imageOf(all, clusterBits, type);
  const [expected, actual] = [await readByQemu(image, all.length, clusterBytes), readByUs(image, clusterBytes)];
  for (const [index, { title }] of all.entries()) {
    expect(actual[index] === undefined ? 'EIO' : 'read', title).toBe(expected[index] === undefined ? 'EIO' : 'read');
    if (actual[index] !== undefined) expect(actual[index].equals(expected[index] ?? Buffer.alloc(0)), title).toBe(true);
  }
  return all.filter((_, index) => actual[index] !== undefined).map(({ title }) => title);
}

/** Text, which is not all the same and gets shorter. */
function content(random: Random, length: number): Buffer {
  let text = '';
  while (text.length < length) text += `line ${random.below(1000)} of the cluster\n`;
  return Buffer.from(text.slice(0, length));
}

function zlibCases(clusterBytes: number): Stored[] {
  const random = new Random(SEED);
  const deflate = (length: number, options: zlib.ZlibOptions = {}) =>
    zlib.deflateRawSync(content(random, length), { windowBits: 12, ...options });
  const open = { finishFlush: zlib.constants.Z_SYNC_FLUSH };
  const whole = deflate(clusterBytes);
  const garbage = Buffer.from(Array.from({ length: 300 }, () => random.below(256)));
  return [
    { title: 'exactly a cluster', bytes: whole },
    { title: 'a cluster, then garbage', bytes: Buffer.concat([whole, garbage]) },
    { title: 'a cluster, then another stream', bytes: Buffer.concat([whole, deflate(500)]) },
    { title: 'a window of 32 KiB', bytes: deflate(clusterBytes, { windowBits: 15 }) },
    { title: 'all the same byte', bytes: zlib.deflateRawSync(Buffer.alloc(clusterBytes, 7)) },
    ...[1, 63, 64, 65, 1000, clusterBytes, 5 * clusterBytes].flatMap((more) => [
      { title: `${more} bytes more`, bytes: deflate(clusterBytes + more, { level: 9 }) },
      { title: `${more} same bytes more`, bytes: zlib.deflateRawSync(Buffer.alloc(clusterBytes + more, 7)) },
    ]),
    { title: 'more than a cluster, not compressed', bytes: deflate(clusterBytes + 300, { level: 0 }) },
    { title: 'no end mark', bytes: deflate(clusterBytes, open) },
    { title: 'no end mark, then more', bytes: Buffer.concat([deflate(clusterBytes, open), deflate(500)]) },
    { title: 'no end mark, then no block', bytes: Buffer.concat([deflate(clusterBytes, open), Buffer.alloc(9, 0xff)]) },
    { title: 'one byte less', bytes: deflate(clusterBytes - 1) },
    { title: 'one byte less, then more', bytes: Buffer.concat([deflate(clusterBytes - 1), whole]) },
    { title: 'one byte less, no end mark', bytes: deflate(clusterBytes - 1, open) },
    { title: 'half a stream', bytes: whole.subarray(0, whole.length / 2) },
    { title: 'nothing', bytes: Buffer.alloc(0) },
    { title: 'garbage', bytes: garbage },
  ].filter(({ bytes }) => bytes.length < 2 * clusterBytes);
}

describe.each([12, 16, 21])('zlib, clusters of 2^%i bytes', (clusterBits) => {
  test('a cluster is what fills it first, as in QEMU', async () => {
    const read = await expectSameClusters(zlibCases(2 ** clusterBits), clusterBits, 0);
    for (const title of [
      'exactly a cluster',
      '1 bytes more',
      '64 bytes more',
      '65 same bytes more',
      'no end mark, then more',
    ])
      expect(read).toContain(title);
    for (const title of ['no end mark, then no block', 'one byte less', 'one byte less, then more', 'garbage'])
      expect(read).not.toContain(title);
  });
});

test('zlib data that is damaged near the end of the cluster, or behind it, is read where QEMU reads it', async () => {
  const random = new Random(SEED);
  const clusterBits = 12;
  const damaged = Array.from({ length: 400 }, (_, index) => {
    const length = 2 ** clusterBits + random.below(200) - 50;
    const bytes = zlib.deflateRawSync(content(random, length), { windowBits: 12, strategy: index % 5 });
    const at = bytes.length - 1 - random.below(Math.min(bytes.length, 120));
    bytes.writeUInt8(random.below(256), at);
    return { title: `${index}: ${length} bytes, damaged at ${at} of ${bytes.length} (seed ${SEED})`, bytes };
  });
  const read = await expectSameClusters(damaged, clusterBits, 0);
  expect(read.length).toBeGreaterThan(50);
  expect(read.length).toBeLessThan(damaged.length - 50);
});

/** Raw deflate data, bit by bit: of a byte, the lowest bit comes first (RFC 1951, section 3.1.1). */
class BitWriter {
  readonly #bits: number[] = [];

  get bitsOfLastByte(): number {
    return this.#bits.length % 8;
  }

  /** The lowest bit first. */
  number(value: number, width: number): void {
    for (let bit = 0; bit < width; bit++) this.#bits.push((value >> bit) & 1);
  }

  /** A Huffman code: the highest bit first. */
  code(code: string, times = 1): void {
    for (let time = 0; time < times; time++) this.#bits.push(...Array.from(code, Number));
  }

  bytes(): Buffer {
    const bytes = Buffer.alloc(Math.ceil(this.#bits.length / 8));
    for (const [at, bit] of this.#bits.entries()) bytes[at >> 3] = (bytes[at >> 3] ?? 0) | (bit << (at & 7));
    return bytes;
  }
}

const LITERAL = '10';
const END_OF_BLOCK = '11';
/** 258 bytes, from one byte before. */
const LONGEST_MATCH = '00';

/** A block of type 2 with these codes (RFC 1951, section 3.2.7), and nothing in it yet. */
function startOfShortCodes(literal: number): BitWriter {
  const writer = new BitWriter();
  writer.number(0b100, 3);
  writer.number(286 - 257, 5);
  writer.number(0, 5);
  const lengths = [0, 0, 1, ...Array(12).fill(0), 2, 0, 2];
  writer.number(lengths.length - 4, 4);
  for (const length of lengths) writer.number(length, 3);
  const zeros = (count: number) => {
    writer.code('0');
    writer.number(count - 11, 7);
  };
  zeros(literal);
  writer.code('11');
  zeros(138);
  zeros(256 - literal - 1 - 138);
  writer.code('11');
  zeros(285 - 257);
  writer.code('10');
  writer.code('10');
  return writer;
}

/**
 * Data whose cluster is full by the first bit of a byte, behind which there is one literal too much and a block of no type. Without
 * that literal zlib would go on, and find the block: nothing of it would need room.
 */
function fullWithinByte(clusterBytes: number, literal: number, spareMatches: number): Stored | undefined {
  const writer = startOfShortCodes(literal);
  const matchCount = Math.floor(clusterBytes / 258) - 1 - spareMatches;
  writer.code(LITERAL, clusterBytes - matchCount * 258);
  writer.code(LONGEST_MATCH, matchCount);
  if (writer.bitsOfLastByte !== 1) return undefined;
  writer.code(LITERAL);
  writer.code(END_OF_BLOCK);
  writer.number(0b110, 3);
  return {
    title: `${literal}, ${matchCount} matches`,
    bytes: Buffer.concat([writer.bytes(), Buffer.alloc(40, 0xff)]),
  };
}

test('zlib data that is damaged within the byte that fills the cluster is read as by QEMU', async () => {
  const all = [97, 98, 99].flatMap((literal) =>
    Array.from({ length: 12 }, (_, spare) => fullWithinByte(2 ** 12, literal, spare) ?? []).flat(),
  );
  expect(all.length).toBeGreaterThan(3);
  expect(await expectSameClusters(all, 12, 0)).toHaveLength(all.length);
});

/** As the reference program writes it. */
function zstdFrame(bytes: Buffer, ...options: string[]): Buffer {
  const { status, stdout } = spawnSync('zstd', ['-q', '-c', ...options], { input: bytes, maxBuffer: 2 ** 26 });
  if (status !== 0) throw new Error(`zstd ends with ${status}`);
  return stdout;
}

function zstdCases(clusterBytes: number): Stored[] {
  const random = new Random(SEED);
  const frame = (length: number, ...options: string[]) => zstdFrame(content(random, length), '--no-check', ...options);
  const join = (...parts: Buffer[]) => Buffer.concat(parts);
  const half = clusterBytes / 2;
  const whole = frame(clusterBytes);
  const checked = zstdFrame(content(random, clusterBytes), '--check');
  const wrong = Buffer.from(checked);
  wrong.writeUInt8(wrong.readUInt8(wrong.length - 1) ^ 1, wrong.length - 1);
  const garbage = Buffer.from(Array.from({ length: 300 }, () => random.below(256)));
  const empty = Buffer.from('28b52ffd2000010000', 'hex');
  const skippable = Buffer.from('5a2a4d18050000000102030405', 'hex');
  return [
    { title: 'exactly a cluster', bytes: whole },
    { title: 'a cluster, its size not told', bytes: frame(clusterBytes, '--no-content-size') },
    { title: 'a cluster with its checksum', bytes: checked },
    { title: 'a cluster with a wrong checksum', bytes: wrong },
    { title: 'a cluster with half a checksum', bytes: checked.subarray(0, -2) },
    { title: 'a cluster, then garbage', bytes: join(whole, garbage) },
    { title: 'a cluster, then another frame', bytes: join(whole, frame(500)) },
    { title: 'a cluster, then half a frame', bytes: join(whole, frame(500).subarray(0, 20)) },
    { title: 'two halves', bytes: join(frame(half), frame(half)) },
    { title: 'half a cluster, then garbage', bytes: join(frame(half), garbage) },
    { title: 'half a cluster, then a cluster', bytes: join(frame(half), whole) },
    { title: 'half a cluster, then too much by one', bytes: join(frame(half), frame(half + 1)) },
    { title: 'an empty frame first', bytes: join(empty, whole) },
    { title: 'a skippable frame first', bytes: join(skippable, whole) },
    { title: 'a skippable frame in between', bytes: join(frame(half), skippable, frame(half)) },
    { title: 'half a skippable frame', bytes: join(frame(half), skippable.subarray(0, 10)) },
    { title: 'a skippable frame last', bytes: join(whole, skippable) },
    ...[1, 64, 1000, clusterBytes, 5 * clusterBytes].flatMap((more) => [
      { title: `${more} bytes more`, bytes: frame(clusterBytes + more) },
      { title: `${more} bytes more, their size not told`, bytes: frame(clusterBytes + more, '--no-content-size') },
    ]),
    { title: 'one byte less', bytes: frame(clusterBytes - 1) },
    { title: 'half a frame', bytes: whole.subarray(0, whole.length / 2) },
    { title: 'nothing', bytes: Buffer.alloc(0) },
    { title: 'garbage', bytes: garbage },
  ].filter(({ bytes }) => bytes.length < 2 * clusterBytes);
}

describe.each([12, 16, 21])('zstd, clusters of 2^%i bytes', (clusterBits) => {
  test('frames fill the cluster and end with it, as in QEMU', async () => {
    const read = await expectSameClusters(zstdCases(2 ** clusterBits), clusterBits, 1);
    for (const title of ['exactly a cluster', 'two halves', 'a skippable frame first', 'a cluster, then garbage'])
      expect(read).toContain(title);
    for (const title of ['1 bytes more', 'one byte less', 'half a cluster, then too much by one', 'garbage'])
      expect(read).not.toContain(title);
  });
});
