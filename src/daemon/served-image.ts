/** Composition: an open image becomes the tree that a mount shows. */

import { setImmediate as turn } from 'node:timers/promises';
import { warn } from '../common/logging.ts';
import { mapSequence, type Sequence } from '../common/sequence.ts';
import { createSharedTextMemory, SharedText, type SharedTextMemory } from '../common/shared-text.ts';
import { Qcow2fsError } from '../errors.ts';
import type { FileSystem, Timestamp } from '../filesystem/file-system.ts';
import { describeCurrent, describeSnapshot } from '../open-image/describe-image.ts';
import { describeVolumes, type VolumesDescription, withoutVolumes } from '../open-image/describe-volumes.ts';
import { imageJsonPieces, maxImageJsonBytes } from '../open-image/image-json.ts';
import { ImageStatus } from '../open-image/image-status.ts';
import { type LayerKey, withKeys } from '../open-image/layer-keys.ts';
import { closeLayers, filesOfLayers } from '../open-image/layers.ts';
import { closeImage, type OpenImage, openSettledImage, snapshotsOf } from '../open-image/open-image.ts';
import { StateDisks } from '../open-image/state-disks.ts';
import { type StateFile, StateFiles, type StateVolumes } from '../open-image/state-files.ts';
import type { Snapshot } from '../qcow2/snapshots.ts';
import { isSettled, type OpenFile } from '../storage/file-storage.ts';
import { MissingRanges } from '../storage/missing-ranges.ts';
import type { Catalogue, Contents, Ownership, SnapshotEntry, VolumeEntry } from '../tree/catalogue.ts';
import { commonOwnership, type FileOwnership, overrideOwnership } from '../tree/ownership.ts';
import { Tree } from '../tree/tree.ts';
import type { Volume } from '../volumes/find-volumes.ts';
import { type ContentBlocks, firstBlocks } from './content-blocks.ts';
import { accessesOf, findAccesses } from './file-access.ts';
import type { DaemonOptions, OnMissing } from './mount-options.ts';
import { type Writer, WriterWatch } from './writer-watch.ts';

/** What `image.json` says besides what the image does. */
interface MountNotes {
  /** Zeros for what is missing must not pass for data of the image. */
  readonly onMissing: OnMissing;
  /** While somebody writes to the image, the current state cannot be read. */
  readonly writer: { readonly pid: number | null; readonly command: string | null } | null;
}

/** All that a tree is made from, as plain data: file descriptors belong to the process, memory is shared. */
export interface ServedImage {
  readonly imagePath: string;
  readonly image: OpenImage;
  readonly contents: ContentBlocks;
  /** The text of `image.json`, which may be long: made when a thread first needs it. */
  readonly imageJson: SharedTextMemory;
  readonly notes: MountNotes;
  /** Whom the tree lets in. */
  readonly ownership: Ownership;
  /** With `onMissing` `zero`: the memory of `MissingRanges`, where all threads count what was not there. */
  readonly missing: SharedArrayBuffer | undefined;
  /** The memory of `ImageStatus`. */
  readonly status: SharedArrayBuffer;
  /** Who writes to the image. */
  readonly writer: Writer | undefined;
  /** The current state is read even then. */
  readonly isCurrentLive: boolean;
}

/** What the user says about it. */
export type ServingOptions = Pick<DaemonOptions, 'chain' | 'onMissing' | 'ownership' | 'isCurrentLive'>;

/**
 * Opens the image and all it stands on, and checks that it can be served. What is damaged but leaves the rest readable goes
 * to the log.
 * @throws Qcow2fsError with what is wrong.
 */
export async function openServedImage(
  imagePath: string,
  keys: readonly LayerKey[],
  options: ServingOptions,
): Promise<ServedImage> {
  const image = await openSettledImage(imagePath, withKeys(keys), options.chain);
  // Each of these steps may take milliseconds: signals are heard in between.
  await turn();
  requireReadable(image);
  for (const problem of image.problems) warn(`warning: ${problem}`);
  const status = ImageStatus.createMemory();
  const ownership = toOwnership(image, options, await findAccesses(filesOfLayers(image.layers)));
  const writer = lookForWriter(image);
  await turn();
  new ImageStatus(status).isBusy = writer !== undefined;
  if (writer !== undefined) announceWriter(imagePath, writer, options.isCurrentLive);
  return {
    imagePath,
    image,
    contents: firstBlocks(image, { isBeingWritten: writer !== undefined, writerCount: 0 }),
    ownership,
    ...describedWith(image, options.onMissing, writer),
    missing: options.onMissing === 'zero' ? MissingRanges.createMemory() : undefined,
    status,
    isCurrentLive: options.isCurrentLive,
  };
}

/** The part of a served image that is about its description. */
export function describedWith(
  image: OpenImage,
  onMissing: OnMissing,
  writer: Writer | undefined,
): Pick<ServedImage, 'imageJson' | 'notes' | 'writer'> {
  const process = writer && { pid: writer.pid ?? null, command: writer.command ?? null };
  const notes = { onMissing, writer: process ?? null };
  return { imageJson: createSharedTextMemory(maxImageJsonBytes(image, notes)), notes, writer };
}

function lookForWriter({ layers }: OpenImage): Writer | undefined {
  const file = layers[0]?.file;
  return file === undefined ? undefined : new WriterWatch(file.fd).look(!isSettled(file));
}

/** Logs that somebody has begun or ceased to write to the image. */
export function announceWriter(imagePath: string, writer: Writer | undefined, isCurrentLive: boolean): void {
  if (writer === undefined) {
    warn(`${imagePath} is not written to any more: its current state is what it holds now`);
    return;
  }
  const who = writer.command === undefined ? 'another process' : `${writer.command} (process ${writer.pid})`;
  const consequence = isCurrentLive
    ? 'its current state is read as it is, and may be inconsistent'
    : 'its current state cannot be read meanwhile, its snapshots can';
  warn(`${imagePath} is written to by ${who}: ${consequence}`);
}

/**
 * Every thread makes disks of it.
 * @throws Qcow2fsError DAMAGED if the state of a backing file cannot be read.
 */
export function requireReadable(image: OpenImage): void {
  new StateDisks(image);
}

/** Whom a tree of this image lets in. */
export function ownershipOf(image: OpenImage, options: ServingOptions): Ownership {
  return toOwnership(image, options, accessesOf(filesOfLayers(image.layers)));
}

function toOwnership(image: OpenImage, options: ServingOptions, accesses: readonly FileOwnership[]): Ownership {
  const common = commonOwnership(accesses);
  // Who may read the ciphertext need not know the passphrase.
  const isEncrypted = image.keys.some((key) => key !== undefined);
  const permissions = isEncrypted ? common.permissions & 0o400 : common.permissions;
  return overrideOwnership({ ...common, permissions }, options.ownership);
}

/** Closes the files of an image that was opened anew; the keys go on being used. */
export function retireServedImage({ image }: ServedImage): void {
  closeLayers(image.layers);
}

/** Says what its readers met, overwrites its keys and closes its files. */
export function closeServedImage({ imagePath, image, missing, status }: ServedImage): void {
  const missingCount = missing === undefined ? 0n : new MissingRanges(missing).count;
  if (missingCount > 0n) warn(`${imagePath}: ${missingCount} ranges past the end of its files were read as zeros`);
  const { repeatedReadCount, refusedReadCount } = new ImageStatus(status);
  if (repeatedReadCount > 0n || refusedReadCount > 0n) {
    warn(
      `${imagePath} changed while it was mounted: ${repeatedReadCount} reads were repeated, ${refusedReadCount} were refused`,
    );
  }
  closeImage(image);
}

/** The tree of a served image; any thread can have one. An outline is without what the disks would have to be read for. */
export function createTree(served: ServedImage, isOutline = false): FileSystem {
  const { image, missing, notes, status } = served;
  const { places } = served.contents;
  const files = new StateFiles(
    image,
    new ImageStatus(status),
    missing === undefined ? undefined : new MissingRanges(missing),
    served.isCurrentLive,
  );
  // Of the tree's states, which are in the order of their blocks, to those of the image.
  const stateOf = (state: number) => (state === 0 ? 0 : (places[state - 1] ?? -1) + 1);
  const imageJson = new SharedText(served.imageJson, () => imageJsonPieces(image, notes));
  const contents: Contents = {
    disk: (state) => files.disk(stateOf(state)),
    vmState: (state) => files.vmState(stateOf(state)),
    volumes: (state) => (isOutline ? [] : files.volumes(stateOf(state)).list.volumes.map(toVolumeEntry)),
    volume: (state, index) => requireVolume(files.volumes(stateOf(state)), index),
    isVolatile: (state) => files.isVolatile(stateOf(state)),
    requireReadable: (state) => files.requireReadable(stateOf(state)),
    imageJson: () => imageJson.bytes(),
    infoJson: (state) =>
      toJson({ ...describeState(image, stateOf(state)), ...describeVolumesOf(files, stateOf(state)) }),
  };
  return new Tree(toCatalogue(served), contents);
}

function toCatalogue({ image, ownership, contents }: ServedImage): Catalogue {
  return {
    ownership,
    time: modificationTime(image.layers[0]?.file),
    currentSizeBytes: image.qcow2.sizeBytes,
    snapshots: mapSequence(inOrder(snapshotsOf(image), contents.places), toSnapshotEntry),
    blocks: contents.blocks,
  };
}

function toSnapshotEntry({ entry, sizeBytes }: Snapshot): SnapshotEntry {
  return {
    id: entry.id,
    name: entry.name,
    // The field is a u32 without a limit in the format; the kernel refuses more than 999,999,999.
    time: { seconds: entry.dateSeconds, nanoseconds: Math.min(entry.dateNanoseconds, 999_999_999) },
    sizeBytes,
    vmStateBytes: entry.vmStateBytes,
  };
}

/** `source` in the order that `places` gives. */
function inOrder<Value>(source: Sequence<Value>, places: Uint32Array): Sequence<Value> {
  const at = (index: number) => (index < places.length ? source.at(places[index] ?? 0) : undefined);
  return {
    length: places.length,
    at,
    *[Symbol.iterator]() {
      for (const place of places) {
        const value = source.at(place);
        if (value !== undefined) yield value;
      }
    },
  };
}

function modificationTime(file: OpenFile | undefined): Timestamp {
  const milliseconds = file?.mtimeMs ?? 0;
  const seconds = Math.floor(milliseconds / 1000);
  return { seconds, nanoseconds: Math.floor((milliseconds - seconds * 1000) * 1e6) };
}

function describeState(image: OpenImage, state: number): object {
  const snapshot = snapshotsOf(image).at(state - 1);
  return snapshot === undefined ? { state: 'current', ...describeCurrent(image.qcow2) } : describeSnapshot(snapshot);
}

function toVolumeEntry({ name, disk, fileSystem, partition }: Volume): VolumeEntry {
  return {
    name: toLatin1(name),
    sizeBytes: disk.sizeBytes,
    label: toLatin1(fileSystem?.label),
    uuid: toLatin1(fileSystem?.uuid),
    partitionLabel: toLatin1(partition?.name),
  };
}

/** Names of files have one character per byte. */
function toLatin1<Text extends string | undefined>(text: Text): Text;
function toLatin1(text: string | undefined): string | undefined {
  return text === undefined ? undefined : Buffer.from(text).toString('latin1');
}

function requireVolume({ files }: StateVolumes, index: number): StateFile {
  const file = files[index];
  if (file === undefined) throw new Qcow2fsError('NOT_FOUND', `there is no volume ${index}`, { data: { index } });
  return file;
}

/** A disk that nothing can be told of now does not take the rest of the description with it. */
function describeVolumesOf(files: StateFiles, state: number): VolumesDescription {
  try {
    return describeVolumes(files.volumes(state).list);
  } catch (error) {
    if (error instanceof Qcow2fsError) return withoutVolumes(error.message);
    throw error;
  }
}

function toJson(value: object): Buffer {
  return Buffer.from(`${JSON.stringify(value, null, 2)}\n`);
}
