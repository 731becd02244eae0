/** Which volume of a state a user means. */

import { Qcow2fsError } from '../errors.ts';
import type { VolumeDescription, VolumesDescription } from '../open-image/describe-volumes.ts';
import { describeContents, type MountType, mountTypeOf } from './mountable.ts';

export interface ChosenVolume {
  readonly volume: VolumeDescription;
  /** Its place in the description. */
  readonly index: number;
  readonly mountType: MountType;
}

/**
 * The volume of this name, label or UUID; without one (null), the only volume that can be mounted.
 * @param state as the user calls it
 * @throws Qcow2fsError USAGE if it may be several, NOT_FOUND if it is none, UNSUPPORTED if it cannot be mounted. All but the last
 * list what there is.
 */
export function chooseVolume(description: VolumesDescription, wanted: string | null, state: string): ChosenVolume {
  const { volumes } = description;
  const candidates = wanted === null ? volumes.filter(isMountable) : findNamed(volumes, wanted);
  const [volume] = candidates;
  if (volume === undefined) throw notFound(description, wanted, state);
  if (candidates.length > 1) {
    const problem = wanted === null ? 'has several file systems' : `has several volumes called ${wanted}`;
    throw new Qcow2fsError('USAGE', `${state} ${problem}: name one of ${listOf(candidates)}`, { data: { state } });
  }
  const mountType = mountTypeOf(volume.fileSystem?.type);
  if (mountType === undefined) {
    const contents = describeContents(volume.fileSystem?.type);
    throw new Qcow2fsError('UNSUPPORTED', `${volume.name} of ${state} cannot be mounted: it holds ${contents}`, {
      data: { state, volume: volume.name },
    });
  }
  return { volume, index: volumes.indexOf(volume), mountType };
}

function isMountable({ fileSystem }: VolumeDescription): boolean {
  return mountTypeOf(fileSystem?.type) !== undefined;
}

/** A name comes before a label: what a guest calls its volumes does not hide one. */
function findNamed(volumes: readonly VolumeDescription[], wanted: string): readonly VolumeDescription[] {
  const byName = volumes.filter(({ name }) => name === wanted);
  if (byName.length > 0) return byName;
  return volumes.filter(({ fileSystem, partitionLabel, partitionUuid }) => {
    const uuids = [fileSystem?.uuid, partitionUuid].map((uuid) => uuid?.toLowerCase());
    return fileSystem?.label === wanted || partitionLabel === wanted || uuids.includes(wanted.toLowerCase());
  });
}

function notFound(
  { volumes, unsupportedVolumes, volumeProblems }: VolumesDescription,
  wanted: string | null,
  state: string,
): Qcow2fsError {
  const unsupported = unsupportedVolumes.find(({ name }) => name === wanted || name.replace('/', '-') === wanted);
  if (unsupported !== undefined) {
    return new Qcow2fsError('UNSUPPORTED', `${wanted} of ${state} cannot be read: ${unsupported.reason}`, {
      data: { state, volume: wanted },
    });
  }
  const missing = wanted === null ? 'no file system that can be mounted' : `no volume ${wanted}`;
  const there = volumes.length === 0 ? 'it has no volumes' : `it has ${listOf(volumes)}`;
  const problems = volumeProblems.length === 0 ? '' : ` (${volumeProblems.join('; ')})`;
  return new Qcow2fsError('NOT_FOUND', `${state} has ${missing}: ${there}${problems}`, { data: { state } });
}

/** `p1 (ext4, shop, 14680064 bytes), …` */
function listOf(volumes: readonly VolumeDescription[]): string {
  return volumes
    .map(({ name, fileSystem, partitionLabel, sizeBytes }) => {
      const label = fileSystem?.label ?? partitionLabel ?? '';
      const about = [fileSystem?.type ?? 'unknown', ...(label === '' ? [] : [label]), `${sizeBytes} bytes`];
      return `${name} (${about.join(', ')})`;
    })
    .join(', ');
}
