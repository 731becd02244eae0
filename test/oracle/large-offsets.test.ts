/** Offsets that need more than 32 bits, in the disk and in the image file, at the sizes of sparse files. */

import fs from 'node:fs';
import { expect, it } from 'vitest';
import { createExtent, type Disk } from '../../src/disk/disk.ts';
import { seekData, seekHole } from '../../src/disk/walk.ts';
import { closeLayers } from '../../src/open-image/layers.ts';
import { openImage } from '../../src/open-image/open-image.ts';
import { StateDisks } from '../../src/open-image/state-disks.ts';
import { runCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { listExtents, mappedRangesOf, mappedRangesOfQemu } from './extent-list.ts';
import { createImage, createSnapshot, mapImage, runQemuIo } from './qemu.ts';
import { Random } from './random.ts';

const KIB = 1024;
const GIB = 2 ** 30;
const TIB = 2 ** 40;
const PIECE_BYTES = 64 * KIB;

function withDisks(imagePath: string, body: (disks: StateDisks) => void): void {
  const image = openImage(imagePath);
  try {
    body(new StateDisks(image));
  } finally {
    closeLayers(image.layers);
  }
}

function readPiece(disk: Disk, offset: number): Buffer {
  const bytes = Buffer.alloc(Math.min(PIECE_BYTES, disk.sizeBytes - offset), 0xa5);
  disk.readAt(bytes, 0, offset, bytes.length);
  return bytes;
}

it('reads a disk of 5 TiB and finds the few pieces of data in it', () =>
  withTemporaryFolder((folder) => {
    const image = `${folder}/image.qcow2`;
    const sizeBytes = 5 * TIB + 512;
    const offsets = [0, 2 * GIB - PIECE_BYTES, 4 * GIB, TIB + 3 * PIECE_BYTES, sizeBytes - 512 - PIECE_BYTES];
    createImage(image, { sizeBytes });
    const writes = offsets.map((offset, index) => `write -q -P ${index + 1} ${offset} ${PIECE_BYTES}`);
    runQemuIo(image, writes.slice(0, 3));
    createSnapshot(image, 'with three pieces');
    runQemuIo(image, writes.slice(3));
    withDisks(image, (disks) => {
      for (const [state, count] of [offsets.length, 3].entries()) {
        const disk = disks.disk(state);
        expect(disk.sizeBytes).toBe(sizeBytes);
        expect(disk.allocatedBytes()).toBe(count * PIECE_BYTES);
        let end = 0;
        for (const [index, offset] of offsets.slice(0, count).entries()) {
          expect(seekData(disk, end)).toBe(offset);
          end = seekHole(disk, offset);
          expect(end).toBe(offset + PIECE_BYTES);
          expect(readPiece(disk, offset).equals(Buffer.alloc(PIECE_BYTES, index + 1))).toBe(true);
          const behind = readPiece(disk, end);
          expect(behind.equals(Buffer.alloc(behind.length))).toBe(true);
        }
        expect(seekData(disk, end)).toBe(undefined);
      }
      expect(mappedRangesOf(listExtents(disks.disk(0)))).toEqual(mappedRangesOfQemu(mapImage(image)));
    });
  }));

it.each(['zlib', 'zstd'])('reads data and %s clusters behind the first 4 GiB of the image file', (compression) =>
  withTemporaryFolder((folder) => {
    const image = `${folder}/image.qcow2`;
    const options = ['preallocation=metadata', `compression_type=${compression}`];
    createImage(image, { sizeBytes: 5 * GIB, options });
    const pattern = `${folder}/pattern`;
    fs.writeFileSync(pattern, new Random(5).bytes(3 * PIECE_BYTES));
    const dataOffset = 4 * GIB + 7 * PIECE_BYTES;
    const compressedOffset = 12 * PIECE_BYTES;
    runQemuIo(image, [`write -q -s ${pattern} ${dataOffset} ${PIECE_BYTES}`]);
    createSnapshot(image, 'before');
    runQemuIo(image, [
      `discard -q ${compressedOffset} ${2 * PIECE_BYTES}`,
      `write -q -c -s ${pattern} ${compressedOffset} ${2 * PIECE_BYTES}`,
    ]);
    withDisks(image, (disks) => {
      const extent = createExtent();
      disks.disk(0).extentAt(dataOffset, PIECE_BYTES, extent);
      expect(extent.kind).toBe('data');
      expect(extent.hostOffset).toBeGreaterThan(4 * GIB);
      disks.disk(0).extentAt(compressedOffset, PIECE_BYTES, extent);
      expect(extent.kind).toBe('compressed');
      for (const offset of [dataOffset, compressedOffset, compressedOffset + PIECE_BYTES]) {
        expect(readPiece(disks.disk(0), offset).equals(pieceOfQemu(image, offset, folder))).toBe(true);
      }
      expect(readPiece(disks.disk(1), dataOffset).equals(pieceOfQemu(image, dataOffset, folder))).toBe(true);
      expect(readPiece(disks.disk(1), compressedOffset).equals(Buffer.alloc(PIECE_BYTES))).toBe(true);
    });
  }),
);

/** What QEMU reads in the current state, without converting all of a large disk. */
function pieceOfQemu(image: string, offset: number, folder: string): Buffer {
  const raw = `${folder}/piece.raw`;
  const range = [`bs=${PIECE_BYTES}`, `skip=${offset / PIECE_BYTES}`, `count=${offset / PIECE_BYTES + 1}`];
  runCommand('qemu-img', ['dd', '-f', 'qcow2', '-O', 'raw', ...range, `if=${image}`, `of=${raw}`]);
  // QEMU versions differ in whether the count includes what is skipped.
  return fs.readFileSync(raw).subarray(0, PIECE_BYTES);
}
