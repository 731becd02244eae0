/** What `list` and `list --would-free` say about space. Keys as in `describe-image.ts`: scripts rely on them. */

import type { Sequence } from '../common/sequence.ts';
import { messageOf, Qcow2fsError } from '../errors.ts';
import type { FreedSpace, StateUsage } from '../qcow2/states/space-usage.ts';
import { type CurrentDescription, describeList, type ImageList, type SnapshotDescription } from './describe-image.ts';
import { findStates } from './find-state.ts';
import { type ImageSpace, measureSpace, type SpaceOptions, statesByDate } from './measure-space.ts';
import { type ImageHeader, snapshotsOf } from './open-image.ts';
import { withSteadyImage } from './steady-image.ts';

/** null where it cannot be told; `problems` has the reason. */
export type UsageDescription = { readonly [Key in keyof StateUsage]: number | null };

export interface ImageSpaceList extends ImageList {
  readonly current: CurrentDescription & UsageDescription;
  readonly snapshots: Sequence<SnapshotDescription & UsageDescription>;
}

/** What deleting snapshots would free, together. */
export interface WouldFree extends FreedSpace {
  readonly image: string;
  /** From the oldest to the newest. */
  readonly snapshots: readonly Pick<SnapshotDescription, 'id' | 'name'>[];
  readonly clusterSizeBytes: number;
  readonly problems: readonly string[];
}

const UNKNOWN: UsageDescription = {
  referBytes: null,
  usedBytes: null,
  writtenBytes: null,
  referMetadataBytes: null,
  usedMetadataBytes: null,
  freeableBytes: null,
};

/** @throws Qcow2fsError as `withSteadyImage`. */
export function listWithSpace(imagePath: string, writerOf: SpaceOptions['writerOf']): ImageSpaceList {
  return withSteadyImage(imagePath, (header, file) => {
    const space = orReason(() => measureSpace(header, file, { chosen: [], writerOf }));
    return describeListWithSpace(header, space);
  });
}

/**
 * @param words snapshots, as `findStates` takes them
 * @throws Qcow2fsError as `withSteadyImage`, `findStates` and `measureSpace`; USAGE for the current state.
 */
export function wouldFree(imagePath: string, words: readonly string[], writerOf: SpaceOptions['writerOf']): WouldFree {
  return withSteadyImage(imagePath, (header, file) => {
    const snapshots = snapshotsOf(header);
    const order = statesByDate(header);
    const states = findStates(imagePath, snapshots, order, words);
    if (states.includes(0)) throw new Qcow2fsError('USAGE', 'the current state cannot be deleted: name snapshots');
    const { chosen, problems } = measureSpace(header, file, { chosen: states, writerOf });
    const list = describeList(header);
    return {
      image: list.image,
      snapshots: states.map((state) => {
        const { id = '', name = '' } = list.snapshots.at(state - 1) ?? {};
        return { id, name };
      }),
      ...chosen,
      clusterSizeBytes: file.clusterBytes,
      problems: [...header.problems, ...problems],
    };
  });
}

type Space = Pick<ImageSpace, 'usageOf' | 'problems'>;

/** What cannot be told of the space takes nothing else of the list with it. */
function orReason(measure: () => Space): Space {
  try {
    return measure();
  } catch (error) {
    if (!(error instanceof Qcow2fsError) || error.code === 'INTERNAL') throw error;
    return { usageOf: () => undefined, problems: [messageOf(error)] };
  }
}

function describeListWithSpace(header: ImageHeader, { usageOf, problems }: Space): ImageSpaceList {
  const { image, current, snapshots, problems: others } = describeList(header);
  const describe = (snapshot: SnapshotDescription, index: number) => ({ ...snapshot, ...describeUsage(index + 1) });
  const describeUsage = (state: number): UsageDescription => usageOf(state) ?? UNKNOWN;
  return {
    image,
    current: { ...current, ...describeUsage(0) },
    snapshots: {
      length: snapshots.length,
      at: (index) => {
        const snapshot = snapshots.at(index);
        return snapshot && describe(snapshot, index);
      },
      *[Symbol.iterator]() {
        let index = 0;
        for (const snapshot of snapshots) yield describe(snapshot, index++);
      },
    },
    problems: [...others, ...problems],
  };
}
