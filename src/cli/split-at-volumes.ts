/** Which volumes a range of a disk lies in. */

import type { PlacedVolume } from '../open-image/diff-states.ts';

export interface VolumeRange {
  readonly start: number;
  readonly length: number;
  /** A logical volume comes behind the volume that it is on. */
  readonly volumes: readonly string[];
}

/** The ranges, which are in order, cut where a volume begins or ends. */
export function* splitAtVolumes(
  ranges: Iterable<{ readonly start: number; readonly length: number }>,
  volumes: readonly PlacedVolume[],
): Generator<VolumeRange> {
  const places = placesBetween(volumes);
  let place = 0;
  for (const { start, length } of ranges) {
    const end = start + length;
    for (let at = start; at < end; ) {
      while (place < places.length && (places[place]?.end ?? 0) <= at) place += 1;
      const here = places[place];
      const next = Math.min(end, here === undefined ? end : at < here.start ? here.start : here.end);
      yield { start: at, length: next - at, volumes: here === undefined || at < here.start ? [] : here.volumes };
      at = next;
    }
  }
}

/** The parts of the disk that are in volumes, between all bounds of volumes. */
function placesBetween(volumes: readonly PlacedVolume[]) {
  const all = volumes.flatMap(({ name, ranges }) => ranges.map((range) => ({ name, ...range })));
  const bounds = [...new Set(all.flatMap(({ start, end }) => [start, end]))].sort((one, other) => one - other);
  return bounds.slice(0, -1).flatMap((start, index) => {
    const end = bounds[index + 1] ?? start;
    const names = all.filter((range) => range.start <= start && range.end >= end).map(({ name }) => name);
    return names.length === 0 ? [] : [{ start, end, volumes: [...new Set(names)] }];
  });
}
