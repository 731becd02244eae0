/** The volumes of the states of an image, without a mount. */

import { decodeName } from '../common/names.ts';
import { Qcow2fsError } from '../errors.ts';
import { describeVolumes, type VolumesDescription, withoutVolumes } from './describe-volumes.ts';
import { findState, stateIdOf, stateNamesOf } from './find-state.ts';
import { ImageStatus } from './image-status.ts';
import { type PassphraseSource, unlockImages, withKeys } from './layer-keys.ts';
import type { ChainOptions } from './layers.ts';
import { closeImage, type OpenImage, openSettledImage, snapshotsOf } from './open-image.ts';
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

export interface ListVolumesOptions {
  readonly chain: ChainOptions;
  readonly passphrasesOf: PassphraseSource;
  /** One state only, as `findState` takes it. */
  readonly state: string | undefined;
  /** Who writes to the image whose descriptor this is: its current state cannot be read then. */
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
 * @throws Qcow2fsError as `openSettledImage`, `unlockImages` and `findState`; for one state also what reading it throws.
 */
export async function listVolumes(imagePath: string, options: ListVolumesOptions): Promise<VolumeListing> {
  const image = await openUnlocked(imagePath, options);
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

async function openUnlocked(imagePath: string, { chain, passphrasesOf }: ListVolumesOptions): Promise<OpenImage> {
  const keys = await unlockImages([imagePath], passphrasesOf, chain);
  try {
    return await openSettledImage(imagePath, withKeys(keys), chain);
  } finally {
    for (const { key } of keys) key.fill(0);
  }
}

/** Gives the volumes of a state; throws if they cannot be told. */
function openStates(image: OpenImage, { writerOf }: ListVolumesOptions): (state: number) => VolumesDescription {
  const files = new StateFiles(image, new ImageStatus(ImageStatus.createMemory()));
  const file = image.layers[0]?.file;
  const writer = file === undefined ? undefined : writerOf(file.fd);
  return (state) => {
    if (state === CURRENT && writer !== undefined) {
      throw new Qcow2fsError(
        'BUSY',
        `${file?.path} is written to by ${writer}: its current state cannot be read meanwhile, its snapshots can`,
        { data: { file: file?.path ?? null } },
      );
    }
    return describeVolumes(files.volumes(state).list);
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
