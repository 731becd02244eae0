/**
 * Which blocks of inode numbers (`tree/node-ids.ts`) the contents of an image have, from one opening of it to the next: what
 * reads as before keeps its block, and with it its open files and cached pages; everything else gets one that nobody had.
 */

import { filesOfLayers } from '../open-image/layers.ts';
import { type OpenImage, snapshotsOf } from '../open-image/open-image.ts';
import { meaningOf } from '../qcow2/header-head.ts';
import { snapshotIdentity } from '../qcow2/snapshots.ts';
import { isSettled, type OpenFile } from '../storage/file-storage.ts';
import type { Blocks } from '../tree/catalogue.ts';

/** Plain data. */
export interface ContentBlocks {
  readonly blocks: Blocks;
  /** For each snapshot in the order of `blocks.snapshots`: its place in the snapshot table. */
  readonly places: Uint32Array;
  /** How many volumes any thread has found: in the current state, and in each of `blocks.snapshots` behind it. */
  readonly volumeCounts: Uint16Array<SharedArrayBuffer>;
  /** The first block that nobody has had. */
  readonly next: number;
  /** What all snapshots depend on, besides themselves. */
  readonly baseKey: string;
  /** What the current state is. */
  readonly currentKey: string;
}

/** The current state of an image that is written to has no contents to be told apart by. */
interface Writing {
  readonly isBeingWritten: boolean;
  /** Times that a writer has come, to the image or to a file below: a block device has nothing else that tells of writes. */
  readonly writerCount: number;
  /** Of these, to a file below. */
  readonly lowerWriterCount: number;
}

/** Those of an image that was not shown before. */
export function firstBlocks(image: OpenImage, writing: Writing): ContentBlocks {
  const { count } = image.snapshotMemory;
  const blocks = shared(count);
  const places = shared(count);
  for (let index = 0; index < count; index++) {
    blocks[index] = FIRST_SNAPSHOT + index;
    places[index] = index;
  }
  return {
    blocks: { imageJson: 1, current: 2, snapshots: blocks },
    places,
    volumeCounts: createCounts(count),
    next: FIRST_SNAPSHOT + count,
    baseKey: baseKeyOf(image, writing),
    currentKey: currentKeyOf(image, writing),
  };
}

const FIRST_SNAPSHOT = 3;

/** Those of `image`, which was shown as `previous` until now. */
export function nextBlocks(
  previous: ContentBlocks,
  previousImage: OpenImage,
  image: OpenImage,
  writing: Writing,
  isSameImageJson = false,
): ContentBlocks {
  let { next } = previous;
  const baseKey = baseKeyOf(image, writing);
  const currentKey = currentKeyOf(image, writing, previous.currentKey);
  const known = baseKey === previous.baseKey ? blocksByIdentity(previous, previousImage) : new Map<string, number[]>();
  const imageJson = isSameImageJson ? previous.blocks.imageJson : next++;
  const current = currentKey === previous.currentKey ? previous.blocks.current : next++;
  const found = Array.from(snapshotsOf(image), (snapshot, place) => ({
    place,
    block: known.get(snapshotIdentity(snapshot))?.shift() ?? next++,
  }));
  found.sort((one, other) => one.block - other.block);
  const [blocks, places] = [shared(found.length), shared(found.length)];
  blocks.set(found.map(({ block }) => block));
  places.set(found.map(({ place }) => place));
  const nowBlocks = { imageJson, current, snapshots: blocks };
  return { blocks: nowBlocks, places, volumeCounts: nextCounts(previous, nowBlocks), next, baseKey, currentKey };
}

/** The kernel may still know volumes of what stayed, though no thread has looked for them again. */
function nextCounts(
  { blocks: before, volumeCounts }: ContentBlocks,
  { current, snapshots }: Blocks,
): ContentBlocks['volumeCounts'] {
  const countOf = new Map(Array.from(before.snapshots, (block, index) => [block, volumeCounts[index + 1] ?? 0]));
  countOf.set(before.current, volumeCounts[0] ?? 0);
  const counts = createCounts(snapshots.length);
  counts.set([current, ...Array.from(snapshots)].map((block) => countOf.get(block) ?? 0));
  return counts;
}

/** True if nothing but `image.json` would be another node. */
export function areSameContents(one: ContentBlocks, other: ContentBlocks): boolean {
  return (
    one.blocks.current === other.blocks.current &&
    sameNumbers(one.blocks.snapshots, other.blocks.snapshots) &&
    sameNumbers(one.places, other.places)
  );
}

/** Snapshots that QEMU made differ; in a crafted table several may be alike. */
function blocksByIdentity({ blocks, places }: ContentBlocks, image: OpenImage): Map<string, number[]> {
  const snapshots = snapshotsOf(image);
  const found = new Map<string, number[]>();
  for (const [index, place] of places.entries()) {
    const snapshot = snapshots.at(place);
    const block = blocks.snapshots[index];
    if (snapshot === undefined || block === undefined) continue;
    const identity = snapshotIdentity(snapshot);
    const alike = found.get(identity);
    if (alike === undefined) found.set(identity, [block]);
    else alike.push(block);
  }
  return found;
}

function baseKeyOf({ layers, qcow2 }: OpenImage, { lowerWriterCount }: Writing): string {
  const [imageFile, ...otherFiles] = filesOfLayers(layers);
  const count = hasDevice(otherFiles) ? lowerWriterCount : 0;
  return JSON.stringify([imageFile?.identity, meaningOf(qcow2), count, otherFiles.map(stampsOf)]);
}

/**
 * As long as nobody knows yet whether a change is the last one, the state is called what it was: it cannot be read, and whoever
 * opens it waits for the next opening of the image.
 */
function currentKeyOf(image: OpenImage, writing: Writing, previous?: string): string {
  const { isBeingWritten, writerCount } = writing;
  const files = filesOfLayers(image.layers);
  const key = JSON.stringify(['at rest', hasDevice(files) ? writerCount : 0, files.map(stampsOf)]);
  // A writer that came and did nothing leaves the state as it was.
  if (key === previous) return key;
  if (isBeingWritten) return JSON.stringify(['written to', baseKeyOf(image, writing), image.qcow2.sizeBytes]);
  return files.every(isSettled) || previous === undefined ? key : previous;
}

function hasDevice(files: readonly OpenFile[]): boolean {
  return files.some(({ isBlockDevice }) => isBlockDevice);
}

function stampsOf({ identity, sizeBytes, mtimeMs, ctimeMs }: OpenFile): unknown {
  return [identity, sizeBytes, mtimeMs, ctimeMs];
}

function sameNumbers(one: ArrayLike<number>, other: ArrayLike<number>): boolean {
  return one.length === other.length && Array.from(one).every((value, index) => value === other[index]);
}

/** For all threads. */
function shared(length: number): Uint32Array<SharedArrayBuffer> {
  return new Uint32Array(new SharedArrayBuffer(length * Uint32Array.BYTES_PER_ELEMENT));
}

/** For the current state and so many snapshots. A state has at most 4096 volumes. */
function createCounts(snapshotCount: number): ContentBlocks['volumeCounts'] {
  return new Uint16Array(new SharedArrayBuffer((snapshotCount + 1) * Uint16Array.BYTES_PER_ELEMENT));
}
