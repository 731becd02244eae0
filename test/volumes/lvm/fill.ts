/** Gives logical volumes contents through the physical ranges that lvs reports, as there is no device to write them to. */

import { createHash } from 'node:crypto';
import fs from 'node:fs';
import type { Disk } from '../../../src/disk/disk.ts';
import { Random, seedOf } from '../../oracle/random.ts';
import { type LvmWorld, report, reportSegments, type SegmentRow } from './lvm-tools.ts';

/** What must be read from a linear volume. */
export interface FilledVolume {
  readonly name: string;
  readonly uuid: string;
  readonly sizeBytes: number;
  readonly sha256: string;
}

/** Fills all volumes that have only linear segments with bytes of their own. */
export function fillLinearVolumes(world: LvmWorld): FilledVolume[] {
  const places = readPlaces(world);
  const rows = reportSegments(world);
  const names = [...new Set(rows.map(nameOf))];
  return names.flatMap((name) => {
    const segments = rows.filter((row) => nameOf(row) === name);
    if (segments.some((row) => row.segtype !== 'linear')) return [];
    return [fillVolume(name, segments, places)];
  });
}

/** Gives one linear volume (`GROUP/NAME`) these contents, which are as long as it is. Returns the number of its segments. */
export function writeLinearVolume(world: LvmWorld, name: string, contents: Buffer): number {
  const segments = reportSegments(world).filter((row) => nameOf(row) === name);
  if (Number(segments[0]?.lv_size) !== contents.length) throw new Error(`${name} is not of ${contents.length} bytes`);
  writeSegments(segments, contents, readPlaces(world));
  return segments.length;
}

/** Reads in pieces of random lengths, which begin and end anywhere. */
export function sha256OfDisk(disk: Disk, random: Random): string {
  const hash = createHash('sha256');
  for (let at = 0; at < disk.sizeBytes; ) {
    const length = Math.min(disk.sizeBytes - at, random.length(600_000));
    const piece = Buffer.alloc(length + 2);
    disk.readAt(piece, 1, at, length);
    hash.update(piece.subarray(1, length + 1));
    at += length;
  }
  return hash.digest('hex');
}

interface Place {
  readonly file: string;
  readonly startBytes: number;
  readonly extentBytes: number;
}

/** Where the first extent of each device is. */
function readPlaces(world: LvmWorld): Map<string, Place> {
  const rows = report(world, 'pvs', 'pv_name,pe_start,vg_extent_size', '--readonly');
  return new Map(
    rows.map((row) => [
      String(row.pv_name),
      {
        file: world.files[world.devices.indexOf(String(row.pv_name))] ?? '',
        startBytes: Number(row.pe_start),
        extentBytes: Number(row.vg_extent_size),
      },
    ]),
  );
}

function fillVolume(name: string, segments: readonly SegmentRow[], places: Map<string, Place>): FilledVolume {
  const [first] = segments;
  if (first === undefined) throw new Error(`${name} has no segments`);
  const contents = new Random(seedOf(first.lv_uuid, 1)).bytes(Number(first.lv_size));
  writeSegments(segments, contents, places);
  const sha256 = createHash('sha256').update(contents).digest('hex');
  return { name, uuid: first.lv_uuid, sizeBytes: contents.length, sha256 };
}

function writeSegments(segments: readonly SegmentRow[], contents: Buffer, places: Map<string, Place>): void {
  for (const { seg_pe_ranges, seg_size, seg_start } of segments) {
    const [, device = '', extent] = /^(.*):(\d+)-\d+$/.exec(seg_pe_ranges) ?? [];
    const place = places.get(device);
    if (place === undefined) throw new Error(`${seg_pe_ranges} is on no device that is known`);
    const start = Number(seg_start);
    writeAt(
      place.file,
      contents.subarray(start, start + Number(seg_size)),
      place.startBytes + Number(extent) * place.extentBytes,
    );
  }
}

function writeAt(file: string, bytes: Buffer, position: number): void {
  const fd = fs.openSync(file, 'r+');
  try {
    fs.writeSync(fd, bytes, 0, bytes.length, position);
  } finally {
    fs.closeSync(fd);
  }
}

function nameOf({ vg_name, lv_name }: SegmentRow): string {
  return `${vg_name}/${lv_name}`;
}
