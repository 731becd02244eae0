import fs from 'node:fs';
import { expect, test } from 'vitest';
import { createExtent, type Disk, isSparse } from '../../src/disk/disk.ts';
import { seekData, seekHole } from '../../src/disk/walk.ts';
import { withoutKeys } from '../../src/open-image/layer-keys.ts';
import { closeImage, openImage } from '../../src/open-image/open-image.ts';
import { StateDisks } from '../../src/open-image/state-disks.ts';
import { RawDisk } from '../../src/raw/raw-disk.ts';
import { BufferStorage } from '../../src/storage/buffer-storage.ts';
import { MappedDisk, type Segment } from '../../src/volumes/mapped-disk.ts';
import { convertToRaw, createImage, runQemuIo } from '../oracle/qemu.ts';
import { Random } from '../oracle/random.ts';
import { catchError } from '../support/catch-error.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

const CLUSTER = 65_536;

function rawDisk(fill: number, sizeBytes = 1024): Disk {
  return new RawDisk(new BufferStorage(Buffer.alloc(sizeBytes, fill)));
}

function read(disk: Disk, offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(length + 2, 0xee);
  disk.readAt(bytes, 1, offset, length);
  expect([bytes[0], bytes[length + 1]]).toEqual([0xee, 0xee]);
  return bytes.subarray(1, length + 1);
}

test('a read goes over as many segments as it touches, in the order of the volume', () => {
  const segments: Segment[] = [
    { startBytes: 30, sizeBytes: 20, disk: rawDisk(3), offset: 7 },
    { startBytes: 0, sizeBytes: 10, disk: rawDisk(1), offset: 1014 },
    { startBytes: 10, sizeBytes: 20, disk: rawDisk(2), offset: 0 },
  ];
  const disk = new MappedDisk(50, segments);
  const whole = Buffer.concat([Buffer.alloc(10, 1), Buffer.alloc(20, 2), Buffer.alloc(20, 3)]);
  for (const [offset, length] of [
    [0, 50],
    [0, 10],
    [9, 2],
    [10, 20],
    [29, 21],
    [49, 1],
    [50, 0],
  ] as const) {
    expect(read(disk, offset, length), `${offset}+${length}`).toEqual(whole.subarray(offset, offset + length));
  }
});

test('what nothing maps is damaged, and only that', () => {
  const disk = new MappedDisk(60, [
    { startBytes: 10, sizeBytes: 10, disk: rawDisk(1), offset: 0 },
    { startBytes: 30, sizeBytes: 10, disk: rawDisk(2), offset: 0 },
  ]);
  const extent = createExtent();
  const extents = [0, 5, 10, 19, 20, 30, 40, 59].map((offset) => {
    disk.extentAt(offset, 60 - offset, extent);
    return `${offset} ${extent.kind} ${extent.lengthBytes}`;
  });
  expect(extents).toEqual([
    ...['0 damaged 10', '5 damaged 5', '10 data 10', '19 data 1'],
    ...['20 damaged 10', '30 data 10', '40 damaged 20', '59 damaged 1'],
  ]);
  for (const [offset, length] of [
    [9, 1],
    [0, 60],
    [10, 11],
    [20, 1],
    [39, 2],
    [59, 1],
  ] as const) {
    expect(catchError(() => read(disk, offset, length)).code, `${offset}+${length}`).toBe('DAMAGED');
  }
  expect(read(disk, 10, 10)).toEqual(Buffer.alloc(10, 1));
});

test('segments that overlap, or do not lie within their disks, are refused', () => {
  const one = rawDisk(1);
  const refused: (readonly [startBytes: number, sizeBytes: number, offset: number])[][] = [
    [
      [0, 10, 0],
      [9, 10, 0],
    ],
    [[0, 101, 0]],
    [[100, 1, 0]],
    [[0, 10, 1015]],
    [[0, 0, 0]],
    [[-1, 10, 0]],
    [[0, 10, -1]],
    [[0, Number.NaN, 0]],
    [[0, 1.5, 0]],
    [[2 ** 60, 1, 0]],
    [[0, 1, 2 ** 60]],
  ];
  for (const rows of refused) {
    const segments = rows.map(([startBytes, sizeBytes, offset]) => ({ startBytes, sizeBytes, disk: one, offset }));
    expect(catchError(() => new MappedDisk(100, segments)).code, JSON.stringify(rows)).toBe('DAMAGED');
  }
  expect(catchError(() => new MappedDisk(-1, [])).code).toBe('DAMAGED');
});

test('bytes, holes and allocated bytes are those of the ranges of a real image', async () => {
  await withTemporaryFolder((folder) => {
    const [path, raw] = [`${folder}/disk.qcow2`, `${folder}/disk.raw`];
    createImage(path, { sizeBytes: 64 * CLUSTER });
    const random = new Random(1);
    const written = Array.from({ length: 64 }, () => random.chance(0.5));
    const clusters = written.flatMap((isWritten, cluster) => (isWritten ? [cluster] : []));
    runQemuIo(
      path,
      clusters.map((cluster) => `write -q -P ${cluster + 1} ${cluster * CLUSTER} ${CLUSTER}`),
    );
    convertToRaw(path, raw);
    const truth = fs.readFileSync(raw);

    const image = openImage(path, withoutKeys);
    try {
      const disk = new StateDisks(image).disk(0);
      // Pieces of four clusters, in another order.
      const order = [9, 3, 15, 0, 1, 12, 7];
      const segments = order.map((piece, index) => ({
        startBytes: index * 4 * CLUSTER,
        sizeBytes: 4 * CLUSTER,
        disk,
        offset: piece * 4 * CLUSTER,
      }));
      const mapped = new MappedDisk(order.length * 4 * CLUSTER, segments);
      const pieces = order.map((piece) => truth.subarray(piece * 4 * CLUSTER, (piece + 1) * 4 * CLUSTER));
      const bytes = Buffer.concat(pieces);
      for (const step of [1000, 4 * CLUSTER, 300_000, bytes.length]) {
        for (let at = 0; at < bytes.length; at += step) {
          const length = Math.min(step, bytes.length - at);
          expect(read(mapped, at, length).equals(bytes.subarray(at, at + length)), `${at}+${length}`).toBe(true);
        }
      }
      const isWritten = order.flatMap((piece) => written.slice(piece * 4, piece * 4 + 4));
      const extent = createExtent();
      isWritten.forEach((expected, cluster) => {
        mapped.extentAt(cluster * CLUSTER, CLUSTER, extent);
        expect([isSparse(extent.kind), extent.lengthBytes]).toEqual([!expected, CLUSTER]);
      });
      expect(mapped.allocatedBytes()).toBe(isWritten.filter(Boolean).length * CLUSTER);
      expect(seekData(mapped, 0)).toBe(isWritten.indexOf(true) * CLUSTER);
      expect(seekHole(mapped, 0)).toBe(isWritten.indexOf(false) * CLUSTER);
      expect(mapped.metadataBytes()).toBe(disk.metadataBytes());
    } finally {
      closeImage(image);
    }
  });
});
