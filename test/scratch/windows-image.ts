/** An image of a small disk on which windows overlap: partitions, and a logical volume of two segments in one of them. */

import fs from 'node:fs';
import path from 'node:path';
import { createSnapshot, runQemuIo } from '../oracle/qemu.ts';
import { Random } from '../oracle/random.ts';
import { runCommand } from '../support/run-command.ts';
import { createLinear, report, reportSegments, withLvm } from '../volumes/lvm/lvm-tools.ts';
import { MIB, runSfdisk, writeBytes } from '../volumes/partitioned-disk.ts';

/** Where a range of a window is on the disk. */
export interface Segment {
  readonly offset: number;
  readonly diskOffset: number;
  readonly length: number;
}

export interface Window {
  /** Its file in the mount. */
  readonly file: string;
  readonly sizeBytes: number;
  readonly segments: readonly Segment[];
}

export interface WindowsImage {
  /** With the snapshot `night`; its current state is other bytes. */
  readonly image: string;
  /** The bytes of the snapshot. */
  readonly copy: string;
  readonly windows: readonly Window[];
}

const SECTOR_BYTES = 512;
/** Its last block is not a whole one. */
const DISK_BYTES = 24 * MIB + SECTOR_BYTES;
/** Neither begins or ends where a block does. */
const PLAIN = { startBytes: 2049 * SECTOR_BYTES, sizeBytes: 8 * MIB - 3 * SECTOR_BYTES };
const PHYSICAL = { startBytes: 20_483 * SECTOR_BYTES, sizeBytes: 12 * MIB };
const TABLE = ['label: gpt', `start=2049,size=${sectors(PLAIN)}`, `start=20483,size=${sectors(PHYSICAL)},type=lvm`];

/** Half of it has bytes that do not compress, with zeros in between. */
export async function makeWindowsImage(folder: string): Promise<WindowsImage> {
  const [image, copy] = [path.join(folder, 'disk.qcow2'), path.join(folder, 'copy.raw')];
  fs.writeFileSync(copy, '');
  fs.truncateSync(copy, DISK_BYTES);
  const random = new Random(5);
  for (let at = MIB; at + 2 * MIB < DISK_BYTES; at += 2 * MIB) writeBytes(copy, at + 700, random.bytes(MIB));
  runSfdisk(copy, TABLE.join('\n'));
  const logical = await writePhysicalVolume(copy);
  runCommand('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', copy, image]);
  createSnapshot(image, 'night');
  runQemuIo(image, [`write -q -P 0x5a 0 ${20 * MIB}`]);
  const whole = { startBytes: 0, sizeBytes: DISK_BYTES };
  const windows = [window('disk.raw', whole), window('volumes/p1.raw', PLAIN), window('volumes/p2.raw', PHYSICAL)];
  return { image, copy, windows: [...windows, logical] };
}

/** The metadata that lvm2 writes; what is in the volume stays what it is on the disk. */
async function writePhysicalVolume(copy: string): Promise<Window> {
  return withLvm([PHYSICAL.sizeBytes], (world) => {
    world.run('vgcreate', '-s', '1m', 'vg', ...world.devices);
    createLinear(world, 'vg', 'root', 3);
    createLinear(world, 'vg', 'between', 1);
    world.run('lvextend', '-l', '+3', 'vg/root');
    const [physical] = report(world, 'pvs', 'pe_start,vg_extent_size', '--readonly');
    const startBytes = PHYSICAL.startBytes + Number(physical?.pe_start);
    const segments = reportSegments(world)
      .filter(({ lv_name }) => lv_name === 'root')
      .map(({ seg_pe_ranges, seg_start, seg_size }) => ({
        offset: Number(seg_start),
        diskOffset: startBytes + Number(/:(\d+)-/.exec(seg_pe_ranges)?.[1]) * Number(physical?.vg_extent_size),
        length: Number(seg_size),
      }));
    if (segments.length !== 2) throw new Error(`the logical volume has ${segments.length} segments`);
    // The metadata only: in front of the first extent.
    runCommand('blockdev', ['--flushbufs', fs.realpathSync(world.devices[0] ?? '')]);
    const metadata = fs.readFileSync(world.files[0] ?? '').subarray(0, Number(physical?.pe_start));
    writeBytes(copy, PHYSICAL.startBytes, metadata);
    const sizeBytes = segments.reduce((sum, { length }) => sum + length, 0);
    return { file: 'volumes/vg-root.raw', sizeBytes, segments };
  });
}

function window(file: string, { startBytes, sizeBytes }: typeof PLAIN): Window {
  return { file, sizeBytes, segments: [{ offset: 0, diskOffset: startBytes, length: sizeBytes }] };
}

function sectors({ sizeBytes }: typeof PLAIN): number {
  return sizeBytes / SECTOR_BYTES;
}
