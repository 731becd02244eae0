/** Ranges that may lie over one another, as parts that do not. */

export interface CountedRange {
  readonly start: number;
  /** Exclusive. */
  readonly end: number;
  /** In how many of the ranges it is, and in how many of the current state. */
  readonly times: number;
  readonly activeTimes: number;
}

/** Cuts `ranges` where any of them begins or ends; the parts come in ascending order. Empty ranges are left out. */
export function mergeRanges(ranges: readonly CountedRange[]): CountedRange[] {
  const edges = ranges
    .filter(({ start, end }) => end > start)
    .flatMap(({ start, end, times, activeTimes }) => [
      { at: start, times, activeTimes },
      { at: end, times: -times, activeTimes: -activeTimes },
    ])
    .sort((a, b) => a.at - b.at);
  const parts: CountedRange[] = [];
  let times = 0;
  let activeTimes = 0;
  let start = 0;
  for (const edge of edges) {
    if (times > 0 && edge.at > start) parts.push({ start, end: edge.at, times, activeTimes });
    times += edge.times;
    activeTimes += edge.activeTimes;
    start = edge.at;
  }
  return parts;
}
