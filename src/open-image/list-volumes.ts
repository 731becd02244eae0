/** The volumes of the states of an image, without a mount. */

import { createHash } from 'node:crypto';
import { decodeName } from '../common/names.ts';
import { Qcow2fsError } from '../errors.ts';
import { describeVolumes, type VolumesDescription, withoutVolumes } from './describe-volumes.ts';
import { findState, stateIdOf, stateNamesOf } from './find-state.ts';
import { ImageStatus } from './image-status.ts';
import { filesOfLayers } from './layers.ts';
import { closeImage, type OpenImage, snapshotsOf } from './open-image.ts';
import { openUnlockedImage, type UnlockOptions } from './open-unlocked.ts';
import { requireLowerQuiet, requireQuiet } from './require-quiet.ts';
import { StateFiles } from './state-files.ts';

const CURRENT = 0;

export interface VolumesOfState extends VolumesDescription {
  /** `current` or `id:N`. */
  readonly state: string;
  /** Of the snapshot; null for the current state. */
  readonly name: string | null;
}

/** What `list --volumes --json` says. */
export interface VolumesOfImage {
  readonly image: string;
  readonly states: readonly VolumesOfState[];
}

export interface ListVolumesOptions extends UnlockOptions {
  /** One state only, as `findState` takes it. */
  readonly state: string | undefined;
  /** Who writes to the file whose descriptor this is. */
  readonly writerOf: (fd: number) => string | undefined;
}

export interface VolumeListing {
  readonly volumes: VolumesOfImage;
  /** For each of these states what `findState` takes for it; its name if possible. */
  readonly names: readonly string[];
  /** Damage of the image itself. */
  readonly problems: readonly string[];
}

/**
 * Looks at the disks of all states, or of one. With all of them, one that cannot be looked at has the reason in its
 * `volumeProblems`.
 * @throws Qcow2fsError as `openUnlockedImage` and `findState`; for one state also what reading it throws.
 */
export async function listVolumes(imagePath: string, options: ListVolumesOptions): Promise<VolumeListing> {
  const image = await openUnlockedImage(imagePath, options);
  try {
    const snapshots = snapshotsOf(image);
    const only = options.state === undefined ? undefined : findState(imagePath, snapshots, options.state);
    const look = openStates(image, options);
    const names = ['current', ...stateNamesOf(snapshots)];
    const numbers = only === undefined ? [...names.keys()] : [only];
    const states = numbers.map((state) => {
      const entry = snapshots.at(state - 1)?.entry;
      return {
        state: stateIdOf(entry),
        name: entry === undefined ? null : decodeName(entry.name).text,
        ...(only === undefined ? orReason(() => look(state)) : look(state)),
      };
    });
    return {
      volumes: { image: imagePath, states },
      names: numbers.map((state) => names[state] ?? ''),
      problems: image.problems,
    };
  } finally {
    closeImage(image);
  }
}

/** Gives the volumes of a state; throws if they cannot be told. */
function openStates(image: OpenImage, { writerOf }: ListVolumesOptions): (state: number) => VolumesDescription {
  const files = new StateFiles(image, new ImageStatus(ImageStatus.createMemory()));
  const writers = new Map(filesOfLayers(image.layers).map(({ fd }) => [fd, writerOf(fd)]));
  const writerOfNow = (fd: number) => writers.get(fd);
  const share = shareAlike();
  return (state) => {
    requireLowerQuiet(image.layers, writerOfNow);
    if (state === CURRENT) requireQuiet(image.layers[0], writerOfNow);
    return share(describeVolumes(files.listVolumes(state)));
  };
}

/** Gives the first of all descriptions that are alike, as those of most states are: there may be tens of thousands. */
function shareAlike(): (description: VolumesDescription) => VolumesDescription {
  const known = new Map<string, VolumesDescription>();
  return (description) => {
    const key = createHash('sha256').update(JSON.stringify(description)).digest('base64');
    const alike = known.get(key);
    if (alike === undefined) known.set(key, description);
    return alike ?? description;
  };
}

function orReason(look: () => VolumesDescription): VolumesDescription {
  try {
    return look();
  } catch (error) {
    if (error instanceof Qcow2fsError) return withoutVolumes(error.message);
    throw error;
  }
}
