/** What each state of an image holds of its file, and what deleting snapshots would free. */

import { Qcow2fsError } from '../errors.ts';
import type { Qcow2File } from '../qcow2/open-qcow2.ts';
import { measureUsage, type SpaceUsage, type StateUsage } from '../qcow2/states/space-usage.ts';
import { stateTablesOf } from '../qcow2/states/state-tables.ts';
import { unsupportedFeatures } from '../qcow2/unsupported-features.ts';
import { QCOW2_INCOMPAT_DIRTY } from '../qcow2/wire/header.ts';
import { WorkLimit } from '../qcow2/work-limit.ts';
import { isUnchanged } from '../storage/file-storage.ts';
import { type ImageHeader, snapshotsOf } from './open-image.ts';

export interface SpaceOptions {
  /** Snapshots by their states, n for the snapshot with place n - 1: what deleting them would free. */
  readonly chosen: readonly number[];
  /** Who writes to the image whose descriptor this is. */
  readonly writerOf: (fd: number) => string | undefined;
}

export interface ImageSpace {
  /** By state: 0 is the current one, n the snapshot with place n - 1. */
  readonly usageOf: (state: number) => StateUsage | undefined;
  readonly chosen: SpaceUsage['chosen'];
  /** What the figures are not to be trusted for, one line each. */
  readonly problems: readonly string[];
}

/**
 * Walks the tables of all states.
 * @throws Qcow2fsError IO; UNSUPPORTED for features that this reader lacks, and as `WorkLimit.spend`.
 */
export function measureSpace(header: ImageHeader, file: Qcow2File, { chosen, writerOf }: SpaceOptions): ImageSpace {
  const unsupported = unsupportedFeatures(file);
  if (unsupported.length > 0) {
    throw new Qcow2fsError('UNSUPPORTED', `what its states hold cannot be told: it uses ${unsupported.join(', ')}`);
  }
  const imageFile = header.layers[0]?.file;
  if (imageFile === undefined) throw new Qcow2fsError('INTERNAL', 'an image without a layer');
  const writer = writerOf(imageFile.fd);
  const order = statesByDate(header);
  const tables = stateTablesOf(file, snapshotsOf(header));
  const places = new Uint32Array(order.length);
  for (const [place, state] of order.entries()) places[state] = place;
  const isDirty = (file.header.incompatibleFeatures & QCOW2_INCOMPAT_DIRTY) !== 0n;
  const usage = measureUsage(file, tables.pick(order), {
    chosen: chosen.flatMap((state) => places[state] ?? []),
    limit: new WorkLimit(imageFile.allocatedBytes || imageFile.sizeBytes, 'what its states hold'),
    areRefcountsCompared: writer === undefined && !isDirty,
  });
  return {
    usageOf: (state) => (state < places.length ? usage.usageOf(places[state] ?? 0) : undefined),
    chosen: usage.chosen,
    problems: [
      ...usage.problems,
      ...(writer === undefined
        ? []
        : [`${writer} writes to the image: REFER, USED and WRITTEN are those of the last flush`]),
      ...(usage.wrongRefcountCount > 0 && isUnchanged(imageFile)
        ? [
            `the refcounts of ${usage.wrongRefcountCount} clusters are not what the tables say, so that deleting snapshots may ` +
              'free less, or damage others: `qcow2fs check` tells more',
          ]
        : []),
    ],
  };
}

/** The snapshots from the oldest on, and the current state at the end. */
export function statesByDate(header: ImageHeader): number[] {
  const snapshots = snapshotsOf(header);
  const seconds = new Float64Array(snapshots.length + 1);
  const nanoseconds = new Uint32Array(snapshots.length + 1);
  let state = 1;
  for (const { entry } of snapshots) {
    seconds[state] = entry.dateSeconds;
    nanoseconds[state] = entry.dateNanoseconds;
    state += 1;
  }
  const order = Array.from({ length: snapshots.length }, (_, index) => index + 1);
  const compare = (numbers: ArrayLike<number>, one: number, other: number) =>
    (numbers[one] ?? 0) - (numbers[other] ?? 0);
  order.sort((one, other) => compare(seconds, one, other) || compare(nanoseconds, one, other));
  return [...order, 0];
}
