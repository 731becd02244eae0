/** Composition: the tree of an image that is served. */

import { mapSequence, type Sequence } from '../common/sequence.ts';
import { SharedText } from '../common/shared-text.ts';
import { Qcow2fsError } from '../errors.ts';
import type { Timestamp } from '../filesystem/file-system.ts';
import { describeCurrent, describeSnapshot } from '../open-image/describe-image.ts';
import { describeVolumes, type VolumesDescription, withoutVolumes } from '../open-image/describe-volumes.ts';
import { imageJsonPieces } from '../open-image/image-json.ts';
import { ImageStatus } from '../open-image/image-status.ts';
import { imageFileOf } from '../open-image/layers.ts';
import { type OpenImage, snapshotsOf } from '../open-image/open-image.ts';
import { StateFiles } from '../open-image/state-files.ts';
import type { Snapshot } from '../qcow2/snapshots.ts';
import type { OpenFile } from '../storage/file-storage.ts';
import { MissingRanges } from '../storage/missing-ranges.ts';
import type { Catalogue, Contents, SnapshotEntry, StateFile as TreeFile, VolumeEntry } from '../tree/catalogue.ts';
import { Tree } from '../tree/tree.ts';
import type { Volume, VolumeList } from '../volumes/find-volumes.ts';
import type { ServedImage } from './served-image.ts';

/** What the contents of a tree come from; states are numbered as in `StateDisks`. */
export interface TreeFiles {
  disk(state: number): TreeFile;
  vmState(state: number): TreeFile;
  volumes(state: number): { readonly list: VolumeList; readonly files: readonly TreeFile[] };
  isVolatile(state: number): boolean;
  requireReadable(state: number): void;
}

/** The states of a served image as files. */
export function stateFilesOf({ image, missing, status, isCurrentLive }: ServedImage): StateFiles {
  const ranges = missing === undefined ? undefined : new MissingRanges(missing);
  return new StateFiles(image, new ImageStatus(status), ranges, isCurrentLive);
}

/** The number in `StateDisks` of the state that has this block of inode numbers; undefined if there is none. */
export function stateOfBlock({ contents: { blocks, places } }: ServedImage, block: number): number | undefined {
  if (block === blocks.current) return 0;
  const place = places[Array.from(blocks.snapshots).indexOf(block)];
  return place === undefined ? undefined : place + 1;
}

export interface TreeOptions {
  /** Without what the disks would have to be read for; it has the nodes of the volumes that other threads have found. */
  readonly isOutline?: boolean;
  /** Those of the image's states if there are no others. */
  readonly files?: TreeFiles;
  /** Without `vmstate.bin`. */
  readonly isDiskOnly?: boolean;
}

/** The tree of a served image; any thread can have one. */
export function createTree(served: ServedImage, options: TreeOptions = {}): Tree {
  const { isOutline = false, files = stateFilesOf(served), isDiskOnly = false } = options;
  const { image, notes } = served;
  const { places } = served.contents;
  // Of the tree's states, which are in the order of their blocks, to those of the image.
  const stateOf = (state: number) => (state === 0 ? 0 : (places[state - 1] ?? -1) + 1);
  const imageJson = new SharedText(served.imageJson, () => imageJsonPieces(image, notes));
  const contents: Contents = {
    disk: (state) => files.disk(stateOf(state)),
    vmState: (state) => files.vmState(stateOf(state)),
    volumes: (state) => (isOutline ? foundVolumes(served, state) : findVolumes(served, files, state, stateOf(state))),
    volume: (state, index) => requireVolume(files.volumes(stateOf(state)).files, index),
    isVolatile: (state) => files.isVolatile(stateOf(state)),
    requireReadable: (state) => files.requireReadable(stateOf(state)),
    imageJson: () => imageJson.bytes(),
    infoJson: (state) =>
      toJson({ ...describeState(image, stateOf(state)), ...describeVolumesOf(files, stateOf(state)) }),
  };
  return new Tree(toCatalogue(served, isDiskOnly), contents);
}

/** Their names are others. */
function foundVolumes({ contents }: ServedImage, state: number): VolumeEntry[] {
  const unknown = { sizeBytes: 0, label: undefined, uuid: undefined, partitionLabel: undefined };
  return Array.from({ length: contents.volumeCounts[state] ?? 0 }, (_, index) => ({ name: String(index), ...unknown }));
}

/** `place` is that of the state in the image. */
function findVolumes({ contents }: ServedImage, files: TreeFiles, state: number, place: number): VolumeEntry[] {
  const { volumes } = files.volumes(place).list;
  contents.volumeCounts[state] = volumes.length;
  return volumes.map(toVolumeEntry);
}

function toCatalogue({ image, ownership, contents }: ServedImage, isDiskOnly: boolean): Catalogue {
  return {
    ownership,
    time: modificationTime(imageFileOf(image.layers)),
    currentSizeBytes: image.qcow2.sizeBytes,
    snapshots: mapSequence(inOrder(snapshotsOf(image), contents.places), (snapshot) =>
      toSnapshotEntry(snapshot, isDiskOnly),
    ),
    blocks: contents.blocks,
  };
}

function toSnapshotEntry({ entry, sizeBytes }: Snapshot, isDiskOnly: boolean): SnapshotEntry {
  return {
    id: entry.id,
    name: entry.name,
    // The field is a u32 without a limit in the format; the kernel refuses more than 999,999,999.
    time: { seconds: entry.dateSeconds, nanoseconds: Math.min(entry.dateNanoseconds, 999_999_999) },
    sizeBytes,
    vmStateBytes: isDiskOnly ? 0 : entry.vmStateBytes,
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

function modificationTime({ mtimeMs }: OpenFile): Timestamp {
  const seconds = Math.floor(mtimeMs / 1000);
  return { seconds, nanoseconds: Math.floor((mtimeMs - seconds * 1000) * 1e6) };
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

function requireVolume(files: readonly TreeFile[], index: number): TreeFile {
  const file = files[index];
  if (file === undefined) throw new Qcow2fsError('NOT_FOUND', `there is no volume ${index}`, { data: { index } });
  return file;
}

/**
 * A disk that is damaged does not take the rest of the description with it. One that cannot be looked at now does: some threads
 * may have looked before, and who reads in pieces would get them of several texts.
 * @throws Qcow2fsError BUSY, STALE.
 */
function describeVolumesOf(files: TreeFiles, state: number): VolumesDescription {
  try {
    return describeVolumes(files.volumes(state).list);
  } catch (error) {
    if (!(error instanceof Qcow2fsError) || error.code === 'BUSY' || error.code === 'STALE') throw error;
    return withoutVolumes(error.message);
  }
}

function toJson(value: object): Buffer {
  return Buffer.from(`${JSON.stringify(value, null, 2)}\n`);
}
