/** Opens an image with everything it stands on, as plain data that can be handed to worker threads. */

import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { Sequence } from '../common/sequence.ts';
import { createSharedBlockMemory, type SharedBlockMemory } from '../common/shared-block-cache.ts';
import { Qcow2fsError } from '../errors.ts';
import { forgetKeys, type VolumeKey } from '../luks/volume-key.ts';
import { type BitmapList, listBitmaps } from '../qcow2/bitmaps.ts';
import { isHeadOf, readHead } from '../qcow2/header-head.ts';
import type { Qcow2Metadata } from '../qcow2/open-qcow2.ts';
import { activeL1TableProblem } from '../qcow2/qcow2-image.ts';
import { isSameTable, readSnapshotTable, type Snapshot, type SnapshotMemory, Snapshots } from '../qcow2/snapshots.ts';
import { findTableProblems } from '../qcow2/table-problems.ts';
import { isSettled, TIME_STAMP_TICKS_MS } from '../storage/file-storage.ts';
import { findKeys, type KeySource, withoutKeys } from './layer-keys.ts';
import {
  type ChainOptions,
  closeLayers,
  filesOfLayers,
  type Layer,
  NO_CHAIN_OPTIONS,
  openBackingChain,
  openDataFiles,
  openTopLayer,
  refuseUnsupportedLayers,
  toQcow2File,
} from './layers.ts';

/** For inflated clusters, over all layers. */
const CLUSTER_CACHE_BYTES = 32 * 1024 * 1024;

const SETTLE_ATTEMPTS = 20;
const IMAGE_SETTLE_ATTEMPTS = 3;
/** A running virtual machine was seen to replace its snapshot table a hundred times in a second. */
const MAX_READINGS = 100;

/** What the image file alone says: enough for `list`. */
export interface ImageHeader {
  readonly layers: readonly Layer[];
  readonly qcow2: Qcow2Metadata;
  /** The first bytes of the file, as they were when all else was read: see `readHead`. */
  readonly head: Uint8Array;
  /** `snapshotsOf` shows what is in it. */
  readonly snapshotMemory: SnapshotMemory;
  readonly bitmaps: BitmapList;
  /** Damage found so far, one line each. */
  readonly problems: readonly string[];
}

/** An image whose states can be read, on any thread. */
export interface OpenImage extends ImageHeader {
  /**
   * Where each layer keeps its inflated clusters, those with clusters of one size together; undefined for a raw one. Same
   * order as `layers`.
   */
  readonly clusterMemories: readonly (SharedBlockMemory | undefined)[];
  /** Tells what this image keeps in the memories from what was kept there before it was opened anew. */
  readonly clusterEpoch: number;
  /** What each layer is decrypted with; undefined for one that is not encrypted. Same order as `layers`. */
  readonly keys: readonly (VolumeKey | undefined)[];
}

/** An image that is open, and is opened anew as it may have changed. */
export interface OpenedBefore {
  /** Its memories are used again. */
  readonly previous: OpenImage;
  /** Where the image is found: not at its own path, if it was moved. */
  readonly openPath: string;
}

/**
 * Reads header and snapshot table, without the backing files and whatever features the image uses.
 * @param openPath where the image is found, if not at the path that it has in messages and for its backing file
 * @throws Qcow2fsError NOT_FOUND, IO, NOT_QCOW2, DAMAGED, PAST_END.
 */
export function openImageHeader(imagePath: string, openPath = imagePath): ImageHeader {
  for (let attempt = 1; ; attempt++) {
    const layer = openTopLayer(imagePath, openPath);
    try {
      const read = readConsistently(layer);
      if (read !== undefined) return read;
      if (attempt === MAX_READINGS) {
        throw new Qcow2fsError('STALE', `${imagePath}: its snapshots are made and deleted too fast to be read`, {
          data: { file: imagePath },
        });
      }
    } catch (error) {
      closeLayers([layer]);
      throw error;
    }
    closeLayers([layer]);
  }
}

/**
 * Header and snapshot table, which a running virtual machine may replace meanwhile: the old table may be empty, or hold
 * something else, before it is read. undefined if that happened.
 */
function readConsistently(layer: Layer & { readonly qcow2: Qcow2Metadata }): ImageHeader | undefined {
  const { qcow2 } = layer;
  const file = toQcow2File(layer, qcow2);
  const head = readHead(file.storage, qcow2);
  const table = readSnapshotTable(file);
  const bitmaps = listBitmaps(file);
  const problems = problemsOfLayer(layer, new Snapshots(table.memory));
  // The head was read after what `qcow2` was made from: it has to say the same.
  const isUnchanged = isHeadOf(head, qcow2) && readHead(file.storage, qcow2).equals(head);
  if (!isUnchanged || !isSameTable(table.memory, readSnapshotTable(file).memory)) return undefined;
  return {
    layers: [layer],
    qcow2,
    head,
    snapshotMemory: table.memory,
    bitmaps,
    problems: [...problems, ...table.problems],
  };
}

/**
 * As `openImageHeader`, with the backing files as far as they can be opened; what is missing is told in `problems`.
 * @throws Qcow2fsError as `openImageHeader`.
 */
export function openImageChain(imagePath: string, chain = NO_CHAIN_OPTIONS): ImageHeader {
  const header = openImageHeader(imagePath);
  const layers = [...header.layers];
  try {
    openBackingChain(layers, chain);
    return { ...header, layers, problems: [...header.problems, ...backingProblems(layers)] };
  } catch (error) {
    if (!(error instanceof Qcow2fsError)) {
      closeLayers(layers);
      throw error;
    }
    return { ...header, layers, problems: [...header.problems, ...backingProblems(layers), error.message] };
  }
}

/**
 * Opens an image with its backing chain for reading. `closeImage` closes it.
 * @param again for an image that is opened anew
 * @throws Qcow2fsError as `openImageHeader`, and UNSUPPORTED for features of any layer that this reader lacks; what
 * `keySource` throws.
 */
export function openImage(
  imagePath: string,
  keySource: KeySource = withoutKeys,
  chain: ChainOptions = NO_CHAIN_OPTIONS,
  again?: OpenedBefore,
): OpenImage {
  const header = openImageHeader(imagePath, again?.openPath);
  const layers = header.layers.map((layer) => ({ ...layer, ...ownFoldersBefore(layer, again?.previous) }));
  const keys: (VolumeKey | undefined)[] = [];
  try {
    refuseUnsupportedLayers(layers);
    openBackingChain(layers, chain);
    refuseUnsupportedLayers(layers.slice(1));
    openDataFiles(layers, chain);
    findKeys(keys, layers, keySource);
    return {
      ...header,
      layers,
      problems: [...header.problems, ...backingProblems(layers)],
      keys,
      ...clusterMemoriesOf(layers, again?.previous),
    };
  } catch (error) {
    // Those of the image that it was before go on being used.
    forgetKeys(keys.filter((key) => again?.previous.keys.includes(key) !== true));
    closeLayers(layers);
    throw error;
  }
}

/**
 * As `openImage`, but waits until every later change of a file is sure to show in its time stamps. The image itself may be
 * one that a virtual machine writes to all the time: it is waited for a moment only.
 * @throws Qcow2fsError as `openImage`, and STALE if a backing or data file is written to all the time.
 */
export async function openSettledImage(
  imagePath: string,
  keySource: KeySource = withoutKeys,
  chain: ChainOptions = NO_CHAIN_OPTIONS,
): Promise<OpenImage> {
  for (let attempt = 1; ; attempt++) {
    const image = openImage(imagePath, keySource, chain);
    const [imageFile, ...otherFiles] = filesOfLayers(image.layers);
    const restless = otherFiles.find((file) => !isSettled(file));
    const isImageSettled = imageFile === undefined || isSettled(imageFile);
    if (restless === undefined && (isImageSettled || attempt === IMAGE_SETTLE_ATTEMPTS)) return image;
    closeImage(image);
    if (restless !== undefined && attempt === SETTLE_ATTEMPTS) {
      const { path } = restless;
      throw new Qcow2fsError('STALE', `${path} is being written to: try again when its virtual machine is shut down`, {
        data: { file: path },
      });
    }
    await sleep(TIME_STAMP_TICKS_MS);
  }
}

/** The snapshots of an image, in the order of its table. */
export function snapshotsOf({ snapshotMemory }: ImageHeader): Snapshots {
  return new Snapshots(snapshotMemory);
}

/** Closes the files and overwrites the keys of an image that is used no more, in no thread. */
export function closeImage({ keys, layers }: OpenImage): void {
  forgetKeys(keys);
  closeLayers(layers);
}

/** As `closeImage`, for an image that was opened anew as `next`: without the keys that this goes on using. */
export function retireImage({ keys, layers }: OpenImage, next: OpenImage): void {
  forgetKeys(keys.filter((key) => !next.keys.includes(key)));
  closeLayers(layers);
}

/** An image that was moved while it is open stands on the files beside the place where it was found. */
function ownFoldersBefore({ file }: Layer, previous: OpenImage | undefined): Pick<Layer, 'ownFolders'> {
  const [before] = previous?.layers ?? [];
  return before?.ownFolders !== undefined && before.file.identity === file.identity
    ? { ownFolders: before.ownFolders }
    : {};
}

/** One memory for each size of clusters: one for each layer would be 1 GiB for a chain of 64 with clusters of 2 MiB. */
function clusterMemoriesOf(
  layers: readonly Layer[],
  previous: OpenImage | undefined,
): Pick<OpenImage, 'clusterMemories' | 'clusterEpoch'> {
  const sizes = layers.map(({ qcow2 }) => qcow2?.clusterBytes);
  if (
    previous !== undefined &&
    isDeepStrictEqual(
      sizes,
      previous.clusterMemories.map((memory) => memory?.blockBytes),
    )
  ) {
    return { clusterMemories: previous.clusterMemories, clusterEpoch: previous.clusterEpoch + 1 };
  }
  const distinct = new Set(sizes.filter((size) => size !== undefined));
  const capacityBytes = Math.floor(CLUSTER_CACHE_BYTES / distinct.size);
  const memories = new Map([...distinct].map((size) => [size, createSharedBlockMemory(size, capacityBytes)]));
  const clusterMemories = sizes.map((size) => (size === undefined ? undefined : memories.get(size)));
  return { clusterMemories, clusterEpoch: 0 };
}

function backingProblems(layers: readonly Layer[]): string[] {
  return layers
    .slice(1)
    .flatMap((layer) => problemsOfLayer(layer, []).map((problem) => `backing file ${layer.file.path}: ${problem}`));
}

/** Without those of the snapshot table itself: a backing file is read in its current state only. */
function problemsOfLayer(layer: Layer, snapshots: Sequence<Snapshot>): string[] {
  const { qcow2 } = layer;
  if (qcow2 === undefined) return [];
  const l1Problem = activeL1TableProblem(qcow2);
  return [
    ...qcow2.problems.map(({ message }) => message),
    ...(l1Problem === undefined ? [] : [l1Problem]),
    ...findTableProblems(toQcow2File(layer, qcow2), snapshots),
  ];
}
