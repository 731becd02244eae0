import zlib from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { decompressZstdCluster, loadOwnZstd } from '../../src/qcow2/decompress.ts';
import { loadLibraryZstd } from '../../src/qcow2/library-zstd.ts';
import { zstdFrameBytes } from '../../src/qcow2/wire/zstd-frame.ts';

/** Frames as the zstd command writes them. */
const FRAMES = {
  /** `printf 'qcow2fs qcow2fs qcow2fs ' | zstd --no-check` */
  text: Buffer.from('28b52ffd00587500004071636f77326673200100430a17', 'hex'),
  /** the same with `--check` */
  checked: Buffer.from('28b52ffd04587500004071636f77326673200100430a1779521159', 'hex'),
  /** `printf 'tail: 8 bytes!' | zstd --no-check`: a raw block */
  raw: Buffer.from('28b52ffd00587100007461696c3a203820627974657321', 'hex'),
};
const TEXT = 'qcow2fs '.repeat(3);
const SECTOR_REST = Buffer.alloc(100, 0xa5);

test.each(Object.entries(FRAMES))('the length of the %s frame is told from its blocks', (_, frame) => {
  expect(zstdFrameBytes(Buffer.concat([SECTOR_REST, frame, SECTOR_REST]), SECTOR_REST.length)).toBe(frame.length);
});

test('a frame that is cut anywhere has no length', () => {
  for (let length = 0; length < FRAMES.checked.length; length++) {
    expect(zstdFrameBytes(FRAMES.checked.subarray(0, length), 0)).toBeUndefined();
  }
});

test.each(['text', 'checked'] as const)('a %s frame gives the cluster, whatever follows it in its sector', (name) => {
  expect(decompressZstdCluster(Buffer.concat([FRAMES[name], SECTOR_REST]), 24).toString()).toBe(TEXT);
});

test('several frames may fill one cluster', () => {
  const stored = Buffer.concat([FRAMES.text, FRAMES.raw, SECTOR_REST]);
  expect(decompressZstdCluster(stored, 38).toString()).toBe(`${TEXT}tail: 8 bytes!`);
});

test.each([
  ['too little', 25],
  ['too much', 23],
])('%s for the cluster is an error', (_, clusterBytes) => {
  expect(() => decompressZstdCluster(Buffer.concat([FRAMES.text, SECTOR_REST]), clusterBytes)).toThrow();
});

test('frames without bytes are no way to waste time', () => {
  /** `printf '' | zstd --no-check` */
  const empty = Buffer.from('28b52ffd2000010000', 'hex');
  const fill = (count: number) => Buffer.concat([...Array<Buffer>(count).fill(empty), FRAMES.text]);
  expect(decompressZstdCluster(fill(1000), 24).toString()).toBe(TEXT);
  expect(() => decompressZstdCluster(fill(1024), 24)).toThrow('over 1024 zstd frames');
});

test('a wrong checksum is an error', () => {
  const frame = Buffer.from(FRAMES.checked);
  frame.writeUInt8(0, frame.length - 1);
  expect(() => decompressZstdCluster(frame, 24)).toThrow();
});

describe.each([
  ['that Node.js or the package brings', loadOwnZstd()],
  // Not called where Node.js has one.
  [
    'that is installed',
    'zstdDecompressSync' in zlib
      ? loadOwnZstd()
      : (loadLibraryZstd() ?? (() => expect.unreachable('libzstd.so.1 or koffi is not installed'))),
  ],
])('the zstd %s', (_, decompress) => {
  test('inflates a frame, also to less than there is room for', () => {
    for (const frame of [FRAMES.text, FRAMES.checked]) {
      for (const room of [24, 25, 65_536]) expect(decompress(frame, room).toString()).toBe(TEXT);
    }
    expect(decompress(FRAMES.raw, 14).toString()).toBe('tail: 8 bytes!');
  });

  test('throws for a frame that is cut, damaged, or too much', () => {
    for (let length = 1; length < FRAMES.checked.length; length++) {
      expect(() => decompress(FRAMES.checked.subarray(0, length), 24), String(length)).toThrow();
    }
    const damaged = Buffer.from(FRAMES.checked);
    damaged.writeUInt8(0, damaged.length - 1);
    expect(() => decompress(damaged, 24)).toThrow();
    expect(() => decompress(FRAMES.text, 23)).toThrow();
    expect(decompress(FRAMES.text, 24).toString()).toBe(TEXT);
  });
});
