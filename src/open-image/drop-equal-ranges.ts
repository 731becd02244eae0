/** Reads what two disks may differ in, and keeps what does. */

import type { Disk } from '../disk/disk.ts';
import { messageOf, Qcow2fsError } from '../errors.ts';
import { ProblemLines } from '../qcow2/states/problem-lines.ts';
import { RangeList } from '../qcow2/states/range-list.ts';

/** What is read at once; a multiple of every cluster that is not larger. */
const PIECE_BYTES = 2 * 1024 * 1024;

export interface DifferentRanges {
  readonly ranges: RangeList;
  /** Ranges that cannot be read, one line each: they count as different. */
  readonly problems: readonly string[];
}

/**
 * The parts of `ranges` in which the disks have different bytes, in whole units of `unitBytes`. Behind the end of a disk are zeros.
 * @throws Qcow2fsError STALE, BUSY or IO; damage is told in `problems`.
 */
export function dropEqualRanges(
  ranges: RangeList,
  one: Disk,
  other: Disk,
  unitBytes: number,
  onProgress?: (fraction: number) => void,
): DifferentRanges {
  const different = new RangeList();
  const problems = new ProblemLines();
  const [first, second] = [Buffer.allocUnsafe(PIECE_BYTES), Buffer.allocUnsafe(PIECE_BYTES)];
  let done = 0;
  for (const { start, length } of ranges) {
    for (let at = start; at < start + length; ) {
      const end = Math.min(start + length, at - (at % PIECE_BYTES) + PIECE_BYTES);
      const problem = read(one, first, at, end - at) ?? read(other, second, at, end - at);
      if (problem === undefined) addDifferent(different, first, second, at, end, unitBytes);
      else {
        problems.add(() => `${problem}: it counts as changed`);
        different.add(at, end);
      }
      done += end - at;
      at = end;
      onProgress?.(done / ranges.totalBytes);
    }
  }
  return { ranges: different, problems: problems.list() };
}

function addDifferent(
  into: RangeList,
  first: Buffer,
  second: Buffer,
  start: number,
  end: number,
  unitBytes: number,
): void {
  for (let at = start; at < end; ) {
    const next = Math.min(end, at - (at % unitBytes) + unitBytes);
    const [from, to] = [at - start, next - start];
    if (first.compare(second, from, to, from, to) !== 0) into.add(at, next);
    at = next;
  }
}

/** Why the bytes cannot be told; undefined if they are at the start of `target`. */
function read(disk: Disk, target: Buffer, offset: number, length: number): string | undefined {
  const within = Math.max(0, Math.min(length, disk.sizeBytes - offset));
  target.fill(0, within, length);
  try {
    if (within > 0) disk.readAt(target, 0, offset, within);
    return undefined;
  } catch (error) {
    if (error instanceof Qcow2fsError && (error.code === 'DAMAGED' || error.code === 'PAST_END'))
      return messageOf(error);
    throw error;
  }
}
