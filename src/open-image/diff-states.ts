/** Where two states of an image differ. */

import { Qcow2fsError } from '../errors.ts';
import type { Qcow2File } from '../qcow2/open-qcow2.ts';
import { requireActiveL1Table } from '../qcow2/qcow2-image.ts';
import { type ChangedRanges, findChangedRanges } from '../qcow2/states/changed-ranges.ts';
import type { RangeList } from '../qcow2/states/range-list.ts';
import { stateTablesOf } from '../qcow2/states/state-tables.ts';
import { refuseUnsupportedFeatures } from '../qcow2/unsupported-features.ts';
import { WorkLimit } from '../qcow2/work-limit.ts';
import { rangesOnDisk } from '../volumes/volume-ranges.ts';
import { dropEqualRanges } from './drop-equal-ranges.ts';
import { findState, stateNamesOf } from './find-state.ts';
import { ImageStatus } from './image-status.ts';
import { toQcow2File } from './layers.ts';
import { closeImage, type ImageHeader, type OpenImage, snapshotsOf } from './open-image.ts';
import { openUnlockedImage, type UnlockOptions } from './open-unlocked.ts';
import { requireLowerQuiet, requireQuiet, requireUnchanged } from './require-quiet.ts';
import { StateFiles } from './state-files.ts';
import { withSteadyImage } from './steady-image.ts';

const CURRENT = 0;

export interface DiffOptions extends UnlockOptions {
  /** Reads what was rewritten, and leaves out what is equal all the same. */
  readonly isExact: boolean;
  /** Says which volume of `b` each range lies in. */
  readonly hasVolumes: boolean;
  /** Who writes to the file whose descriptor this is. */
  readonly writerOf: (fd: number) => string | undefined;
  readonly onProgress?: (fraction: number) => void;
}

/** A volume of the second state, with where it is on the disk. */
export interface PlacedVolume {
  readonly name: string;
  readonly ranges: readonly { readonly start: number; readonly end: number }[];
}

export interface StateDiff {
  readonly image: string;
  /** As `findState` takes them. */
  readonly a: string;
  readonly b: string;
  readonly aSizeBytes: number;
  readonly bSizeBytes: number;
  readonly ranges: RangeList;
  /** undefined unless they were asked for. */
  readonly volumes: readonly PlacedVolume[] | undefined;
  /** Everything could be compared; what could not counts as changed. */
  readonly isComplete: boolean;
  /** What is wrong with the image, and what could not be compared, one line each. */
  readonly problems: readonly string[];
}

interface Compared extends ChangedRanges {
  readonly volumes: readonly PlacedVolume[] | undefined;
}

/**
 * Without `isExact` and `hasVolumes`, it needs neither backing files nor a key.
 * @param a, b as `findState` takes them
 * @throws Qcow2fsError as `diffTables`; with these also as `openUnlockedImage` and `requireLowerQuiet`.
 */
export async function diffStates(imagePath: string, a: string, b: string, options: DiffOptions): Promise<StateDiff> {
  if (!options.isExact && !options.hasVolumes) return diffTables(imagePath, a, b, options.writerOf);
  const image = await openUnlockedImage(imagePath, options);
  try {
    const states = statesOf(image, imagePath, a, b);
    requireLowerQuiet(image.layers, options.writerOf);
    if (states.includes(CURRENT)) requireQuiet(image.layers[0], options.writerOf);
    return describe(image, states, compareBytes(image, states, options));
  } finally {
    closeImage(image);
  }
}

/**
 * From the tables of the image alone.
 * @param a, b as `findState` takes them
 * @throws Qcow2fsError as `withSteadyImage`, `findState` and `requireQuiet`.
 */
export function diffTables(imagePath: string, a: string, b: string, writerOf: DiffOptions['writerOf']): StateDiff {
  return withSteadyImage(imagePath, (header, file) => {
    const states = statesOf(header, imagePath, a, b);
    refuseUnsupportedFeatures(imagePath, file);
    if (states.includes(CURRENT)) {
      requireQuiet(header.layers[0], writerOf);
      requireActiveL1Table(file);
    }
    const compared = compareTables(header, file, states);
    if (states.includes(CURRENT)) requireUnchanged(header.layers);
    return describe(header, states, { ...compared, volumes: undefined });
  });
}

type StatePair = readonly [a: number, b: number];

function statesOf(header: ImageHeader, imagePath: string, a: string, b: string): StatePair {
  const snapshots = snapshotsOf(header);
  return [findState(imagePath, snapshots, a), findState(imagePath, snapshots, b)];
}

function compareTables(header: ImageHeader, file: Qcow2File, [a, b]: StatePair): ChangedRanges {
  const tables = stateTablesOf(file, snapshotsOf(header));
  const [one, other] = [tables.at(a), tables.at(b)];
  const imageFile = header.layers[0]?.file;
  if (one === undefined || other === undefined || imageFile === undefined) {
    throw new Qcow2fsError('INTERNAL', `there are no states ${a} and ${b}`);
  }
  const limit = new WorkLimit(imageFile.allocatedBytes || imageFile.sizeBytes, 'what has changed');
  return findChangedRanges(file, one, other, limit);
}

/** What is compared is confirmed for both states, one around the other. */
function compareBytes(image: OpenImage, states: StatePair, { isExact, hasVolumes, onProgress }: DiffOptions): Compared {
  const [layer] = image.layers;
  if (layer === undefined) throw new Qcow2fsError('INTERNAL', 'an image without a layer');
  const file = toQcow2File(layer, image.qcow2);
  const files = new StateFiles(image, new ImageStatus(ImageStatus.createMemory()));
  const [one, other] = [files.disk(states[0]), files.disk(states[1])];
  const compared = one.exact(() => other.exact(() => compareTables(image, file, states)));
  const unitBytes = image.qcow2.hasExtendedL2 ? image.qcow2.clusterBytes / 32 : image.qcow2.clusterBytes;
  const different = isExact ? dropEqualRanges(compared.ranges, one, other, unitBytes, onProgress) : undefined;
  return {
    ranges: different?.ranges ?? compared.ranges,
    problems: [...compared.problems, ...(different?.problems ?? [])],
    volumes: hasVolumes ? placeVolumes(files, states[1]) : undefined,
  };
}

function placeVolumes(files: StateFiles, state: number): PlacedVolume[] {
  const { disk, list } = files.placedVolumes(state);
  return list.volumes.map((volume) => ({ name: volume.name, ranges: rangesOnDisk(volume.disk, disk) }));
}

function describe(header: ImageHeader, [a, b]: StatePair, { ranges, volumes, problems }: Compared): StateDiff {
  const snapshots = snapshotsOf(header);
  const names = ['current', ...stateNamesOf(snapshots)];
  const sizeOf = (state: number) => snapshots.at(state - 1)?.sizeBytes ?? header.qcow2.sizeBytes;
  return {
    image: header.layers[0]?.file.path ?? '',
    a: names[a] ?? '',
    b: names[b] ?? '',
    aSizeBytes: sizeOf(a),
    bSizeBytes: sizeOf(b),
    ranges,
    volumes,
    isComplete: problems.length === 0,
    problems: [...header.problems, ...problems],
  };
}
