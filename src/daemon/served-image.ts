/** Composition: an open image becomes the tree that a mount shows. */

import type { FileSystem, Timestamp } from '../filesystem/file-system.ts';
import { describeCurrent, describeInfo, describeSnapshot } from '../open-image/describe-image.ts';
import { type LayerKey, withKeys } from '../open-image/layer-keys.ts';
import { filesOfLayers } from '../open-image/layers.ts';
import { closeImage, type OpenImage, openSettledImage } from '../open-image/open-image.ts';
import { StateDisks } from '../open-image/state-disks.ts';
import type { OpenFile } from '../storage/file-storage.ts';
import type { Catalogue, Contents, Ownership } from '../tree/catalogue.ts';
import { commonOwnership, overrideOwnership } from '../tree/ownership.ts';
import { Tree } from '../tree/tree.ts';
import { accessesOf } from './file-access.ts';
import type { DaemonOptions } from './mount-options.ts';

/** All that a tree is made from, as plain data: file descriptors belong to the process, memory is shared. */
export interface ServedImage {
  readonly imagePath: string;
  readonly image: OpenImage;
  /** Whom the tree lets in. */
  readonly ownership: Ownership;
}

/**
 * Opens the image and all it stands on, and checks that it can be served.
 * @throws Qcow2fsError with what is wrong.
 */
export async function openServedImage(
  imagePath: string,
  keys: readonly LayerKey[],
  { chain, ownership }: Pick<DaemonOptions, 'chain' | 'ownership'>,
): Promise<ServedImage> {
  const image = await openSettledImage(imagePath, withKeys(keys), chain);
  const disks = new StateDisks(image);
  disks.requireUnchanged();
  const common = commonOwnership(filesOfLayers(image.layers).flatMap(accessesOf));
  return { imagePath, image, ownership: overrideOwnership(common, ownership) };
}

/** Overwrites its keys and closes its files. */
export function closeServedImage({ image }: ServedImage): void {
  closeImage(image);
}

/** The tree of a served image; any thread can have one. */
export function createTree(served: ServedImage): FileSystem {
  const { image } = served;
  const disks = new StateDisks(image);
  const contents: Contents = {
    disk: (state) => disks.disk(state),
    vmState: (state) => disks.vmState(state),
    requireUnchanged: () => disks.requireUnchanged(),
    imageJson: once(() => toJson(describeInfo(image))),
    infoJson: (state) => toJson(describeState(image, state)),
  };
  return new Tree(toCatalogue(served), contents);
}

function toCatalogue({ image, ownership }: ServedImage): Catalogue {
  return {
    ownership,
    time: modificationTime(image.layers[0]?.file),
    currentSizeBytes: image.qcow2.sizeBytes,
    snapshots: image.snapshots.map(({ entry, sizeBytes }) => ({
      id: entry.id,
      name: entry.name,
      // The field is a u32 without a limit in the format; the kernel refuses more than 999,999,999.
      time: { seconds: entry.dateSeconds, nanoseconds: Math.min(entry.dateNanoseconds, 999_999_999) },
      sizeBytes,
      vmStateBytes: entry.vmStateBytes,
    })),
  };
}

function modificationTime(file: OpenFile | undefined): Timestamp {
  const milliseconds = file?.mtimeMs ?? 0;
  const seconds = Math.floor(milliseconds / 1000);
  return { seconds, nanoseconds: Math.floor((milliseconds - seconds * 1000) * 1e6) };
}

function describeState({ qcow2, snapshots }: OpenImage, state: number): object {
  const snapshot = snapshots[state - 1];
  return snapshot === undefined ? { state: 'current', ...describeCurrent(qcow2) } : describeSnapshot(snapshot);
}

function toJson(value: object): Buffer {
  return Buffer.from(`${JSON.stringify(value, null, 2)}\n`);
}

function once(make: () => Buffer): () => Buffer {
  let made: Buffer | undefined;
  return () => {
    made ??= make();
    return made;
  };
}
