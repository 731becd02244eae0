/** Lists of extents in one normal form, whether they come from a Disk or from `qemu-img map`. */

import { createExtent, type Disk, type ExtentKind, isSparse } from '../../src/disk/disk.ts';
import type { MapEntry } from './qemu.ts';

export interface ListedExtent {
  readonly offset: number;
  readonly lengthBytes: number;
  readonly kind: ExtentKind;
  readonly hostOffset: number;
  readonly depth: number;
}

const SECTOR_BYTES = 512;

/** A half-open range of bytes. */
export interface Range {
  readonly start: number;
  readonly end: number;
}

/** All extents of a disk as `extentAt` gives them; throws if they do not cover it step by step. */
export function listExtents(disk: Disk): ListedExtent[] {
  const extents: ListedExtent[] = [];
  const extent = createExtent();
  for (let offset = 0; offset < disk.sizeBytes; offset += extent.lengthBytes) {
    const rest = disk.sizeBytes - offset;
    disk.extentAt(offset, rest, extent);
    if (!(extent.lengthBytes > 0 && extent.lengthBytes <= rest)) {
      throw new Error(`the extent at ${offset} has ${extent.lengthBytes} bytes, and ${rest} follow`);
    }
    extents.push({ offset, ...extent });
  }
  return extents;
}

/** The ranges that hold data, neighbours merged. */
export function dataRanges(extents: readonly ListedExtent[]): Range[] {
  const ranges: Range[] = [];
  for (const { kind, lengthBytes, offset } of extents) {
    if (isSparse(kind)) continue;
    const last = ranges.at(-1);
    if (last?.end === offset) ranges[ranges.length - 1] = { start: last.start, end: offset + lengthBytes };
    else ranges.push({ start: offset, end: offset + lengthBytes });
  }
  return ranges;
}

/** Extents as `qemu-img map` tells them, and as both sides can be brought to: neighbours that go on are one. */
export interface MappedRange {
  start: number;
  length: number;
  readonly present: boolean;
  readonly zero: boolean;
  /** -1 for what no layer holds. */
  readonly depth: number;
  /** -1 for compressed clusters and zeros. */
  readonly offset: number;
}

export function mappedRangesOf(extents: readonly ListedExtent[]): MappedRange[] {
  return mergeNeighbours(
    extents.map(({ depth, hostOffset, kind, lengthBytes, offset }) => ({
      start: offset,
      length: lengthBytes,
      present: kind !== 'hole',
      zero: isSparse(kind),
      depth: kind === 'hole' ? -1 : depth,
      offset: kind === 'data' ? hostOffset : -1,
    })),
  );
}

export function mappedRangesOfQemu(entries: readonly MapEntry[]): MappedRange[] {
  return mergeNeighbours(
    entries.map(toldAsWholeSectors).map(({ depth, length, offset, present, start, zero }) => ({
      start,
      length,
      present,
      zero,
      // For what no layer holds, QEMU tells the layer at which it stopped looking.
      depth: present ? depth : -1,
      // QEMU tells the cluster that a zero range keeps allocated, which nothing reads.
      offset: zero ? -1 : (offset ?? -1),
    })),
  );
}

/**
 * The last sector of a raw file of odd size: QEMU tells the zeros that fill it up, the reader counts the whole sector as
 * data.
 */
function toldAsWholeSectors(entry: MapEntry, index: number, entries: readonly MapEntry[]): MapEntry {
  const before = entries[index - 1];
  if (entry.start % SECTOR_BYTES === 0 || before?.offset === undefined) return entry;
  return { ...before, start: entry.start, length: entry.length, offset: before.offset + before.length };
}

function mergeNeighbours(ranges: readonly MappedRange[]): MappedRange[] {
  const merged: MappedRange[] = [];
  for (const range of ranges) {
    const last = merged.at(-1);
    if (last !== undefined && continues(last, range)) last.length += range.length;
    else merged.push({ ...range });
  }
  return merged;
}

function continues(last: MappedRange, next: MappedRange): boolean {
  return (
    next.present === last.present &&
    next.zero === last.zero &&
    next.depth === last.depth &&
    next.offset === (last.offset === -1 ? -1 : last.offset + last.length)
  );
}
