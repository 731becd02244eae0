/** Ranges that may lie over one another, as parts that do not. */

import type { Sequence } from '../../common/sequence.ts';

export interface CountedRange {
  readonly start: number;
  /** Exclusive. */
  readonly end: number;
  /** In how many of the ranges it is, and in how many of the current state. */
  readonly times: number;
  readonly activeTimes: number;
}

type Range = Pick<CountedRange, 'start' | 'end'>;

const NOTHING: Range = { start: 0, end: 0 };

/**
 * Cuts ranges where any of them begins or ends; the parts come in ascending order. Ranges that end where they begin, or
 * before that, are left out. `active` is the one of the current state.
 */
export function* mergeRanges(ranges: Sequence<Range>, active = NOTHING): Generator<CountedRange> {
  // Which end belongs to which start does not matter for how many ranges there are at a place.
  const starts = new Float64Array(ranges.length);
  const ends = new Float64Array(ranges.length);
  let count = 0;
  for (const { start, end } of ranges) {
    starts[count] = start;
    ends[count] = Math.max(start, end);
    count += 1;
  }
  starts.sort();
  ends.sort();
  let started = 0;
  let ended = 0;
  let start = 0;
  while (ended < ends.length) {
    const end = Math.min(starts[started] ?? Infinity, ends[ended] ?? Infinity);
    const times = started - ended;
    if (times > 0 && end > start) {
      yield { start, end, times, activeTimes: start >= active.start && end <= active.end ? 1 : 0 };
    }
    for (; starts[started] === end; started++);
    for (; ends[ended] === end; ended++);
    start = end;
  }
}
