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

/** The parts of the disk that are in volumes, between all bounds of volumes; the names are in the order of the volumes. */
function placesBetween(volumes: readonly PlacedVolume[]) {
  const bounds = volumes
    .flatMap(({ ranges }, index) =>
      ranges.flatMap(({ start, end }) => [
        { at: start, index, change: 1 },
        { at: end, index, change: -1 },
      ]),
    )
    .sort((one, other) => one.at - other.at);
  const places: { start: number; end: number; volumes: readonly string[] }[] = [];
  /** How many ranges of a volume are open, for those that have any. */
  const open = new Map<number, number>();
  for (const [place, { at, index, change }] of bounds.entries()) {
    const count = (open.get(index) ?? 0) + change;
    if (count === 0) open.delete(index);
    else open.set(index, count);
    const end = bounds[place + 1]?.at ?? at;
    if (end === at || open.size === 0) continue;
    const names = [...open.keys()].sort((one, other) => one - other).map((each) => volumes[each]?.name ?? '');
    places.push({ start: at, end, volumes: [...new Set(names)] });
  }
  return places;
}
