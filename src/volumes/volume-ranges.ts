/** Where on a disk the bytes of a volume are. */

import type { Disk } from '../disk/disk.ts';
import { WindowDisk } from '../disk/window-disk.ts';
import { MappedDisk } from './mapped-disk.ts';

export interface DiskRange {
  readonly start: number;
  readonly end: number;
}

/**
 * The ranges of `whole` that `disk`, which is a window on it or put together from such windows, has its bytes from; in the order of the
 * bytes of `disk`.
 */
export function rangesOnDisk(disk: Disk, whole: Disk): DiskRange[] {
  return rangesWithin(disk, 0, disk.sizeBytes, whole);
}

function rangesWithin(disk: Disk, from: number, to: number, whole: Disk): DiskRange[] {
  if (disk === whole) return [{ start: from, end: to }];
  if (disk instanceof WindowDisk) return rangesWithin(disk.disk, disk.start + from, disk.start + to, whole);
  if (!(disk instanceof MappedDisk)) return [];
  return disk.segments.flatMap((segment) => {
    const [start, end] = [Math.max(from, segment.startBytes), Math.min(to, segment.startBytes + segment.sizeBytes)];
    if (start >= end) return [];
    const shift = segment.offset - segment.startBytes;
    return rangesWithin(segment.disk, start + shift, end + shift, whole);
  });
}
