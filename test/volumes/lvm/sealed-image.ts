/** A disk with metadata that lvm2 wrote, and the means to change its bytes with the checksums made right again. */

import fs from 'node:fs';
import { crc32 } from 'node:zlib';
import { RawDisk } from '../../../src/raw/raw-disk.ts';
import { BufferStorage } from '../../../src/storage/buffer-storage.ts';
import { readLvm } from '../../../src/volumes/lvm/lvm.ts';
import type { LvmResult } from '../../../src/volumes/lvm/lvm-result.ts';
import { createLinear, withLvm } from './lvm-tools.ts';

const KIB = 1024;
export const LABEL_OFFSET = 512;
/** The first metadata area is behind the label, one page into the disk. */
export const AREA_OFFSET = 4096;
const AREA_HEADER_BYTES = 512;
const INITIAL_CRC = 0xf597_a6cf;

/** A disk of 4 MiB with two metadata areas and a group `vg` of three volumes, `one` in two segments. */
export function makeImage(): Promise<Buffer> {
  return withLvm([4096 * KIB], (world) => {
    world.run('pvcreate', '--metadatacopies', '2', world.devices[0] ?? '');
    world.run('vgcreate', '-s', '64k', 'vg', world.devices[0] ?? '');
    for (const name of ['one', 'two', 'three']) createLinear(world, 'vg', name, 3);
    world.run('lvextend', '-l', '+2', 'vg/one');
    return fs.readFileSync(world.files[0] ?? '');
  });
}

/** zlib inverts the value before and after: see the comment of crc32() in zlib.h. */
export function checksumOf(bytes: Buffer): number {
  return ~crc32(bytes, ~INITIAL_CRC >>> 0) >>> 0;
}

/** Offsets of both metadata areas: the second is at the end of the disk, as its label says. */
export function areaOffsets(image: Buffer): [number, number] {
  // Behind label_header (32), pv_header (40), one data area and the end mark of the list (16 each): two metadata areas.
  const areas = LABEL_OFFSET + 32 + 40 + 32;
  return [Number(image.readBigUInt64LE(areas)), Number(image.readBigUInt64LE(areas + 16))];
}

/** The committed text of the metadata area at `area`, which must not go around its end. */
export function textOf(image: Buffer, area: number): string {
  const offset = area + Number(image.readBigUInt64LE(area + 40));
  return image.toString('latin1', offset, offset + Number(image.readBigUInt64LE(area + 48)));
}

/** The image with another text in both areas. */
export function withText(image: Buffer, text: string): Buffer {
  const changed = Buffer.from(image);
  const bytes = Buffer.from(text, 'latin1');
  for (const area of areaOffsets(image)) {
    bytes.copy(changed, area + AREA_HEADER_BYTES);
    changed.writeBigUInt64LE(BigInt(AREA_HEADER_BYTES), area + 40);
    changed.writeBigUInt64LE(BigInt(bytes.length), area + 48);
    changed.writeUInt32LE(checksumOf(bytes), area + 56);
    sealArea(changed, area);
  }
  return changed;
}

/** Makes the checksum of the header of an area right. */
export function sealArea(image: Buffer, area: number): void {
  image.writeUInt32LE(checksumOf(image.subarray(area + 4, area + AREA_HEADER_BYTES)), area);
}

/** Makes the checksum of the label right. */
export function sealLabel(image: Buffer): void {
  image.writeUInt32LE(checksumOf(image.subarray(LABEL_OFFSET + 20, LABEL_OFFSET + 512)), LABEL_OFFSET + 16);
}

export function readImage(image: Buffer): LvmResult {
  return readLvm([{ name: 'p1', disk: new RawDisk(new BufferStorage(image)) }]);
}

/** The volumes that can be read, and for the others why not. */
export function summaryOf({ logicalVolumes }: LvmResult): string[] {
  return logicalVolumes.map(({ name, unsupported }) => (unsupported === undefined ? name : `${name}: ${unsupported}`));
}
