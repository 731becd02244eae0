/** Composition: an open image becomes the tree that a mount shows. */

import { warn } from '../common/logging.ts';
import { mapSequence } from '../common/sequence.ts';
import { createSharedTextMemory, SharedText, type SharedTextMemory } from '../common/shared-text.ts';
import type { FileSystem, Timestamp } from '../filesystem/file-system.ts';
import { describeCurrent, describeSnapshot } from '../open-image/describe-image.ts';
import { imageJsonPieces, maxImageJsonBytes } from '../open-image/image-json.ts';
import { type LayerKey, withKeys } from '../open-image/layer-keys.ts';
import { filesOfLayers } from '../open-image/layers.ts';
import { closeImage, type OpenImage, openSettledImage, snapshotsOf } from '../open-image/open-image.ts';
import { StateDisks } from '../open-image/state-disks.ts';
import type { OpenFile } from '../storage/file-storage.ts';
import { MissingRanges } from '../storage/missing-ranges.ts';
import type { Catalogue, Contents, Ownership } from '../tree/catalogue.ts';
import { commonOwnership, overrideOwnership } from '../tree/ownership.ts';
import { Tree } from '../tree/tree.ts';
import { accessesOf } from './file-access.ts';
import type { DaemonOptions } from './mount-options.ts';

/** Zeros for what is missing must not pass for data of the image. */
type MountNotes = Pick<DaemonOptions, 'onMissing'>;

/** All that a tree is made from, as plain data: file descriptors belong to the process, memory is shared. */
export interface ServedImage {
  readonly imagePath: string;
  readonly image: OpenImage;
  /** The text of `image.json`, which may be long: made when a thread first needs it. */
  readonly imageJson: SharedTextMemory;
  /** What `image.json` says besides what the image does. */
  readonly mountNotes: MountNotes;
  /** Whom the tree lets in. */
  readonly ownership: Ownership;
  /** With `onMissing` `zero`: the memory of `MissingRanges`, where all threads count what was not there. */
  readonly missing: SharedArrayBuffer | undefined;
}

/**
 * Opens the image and all it stands on, and checks that it can be served. What is damaged but leaves the rest readable goes
 * to the log.
 * @throws Qcow2fsError with what is wrong.
 */
export async function openServedImage(
  imagePath: string,
  keys: readonly LayerKey[],
  { chain, onMissing, ownership }: Pick<DaemonOptions, 'chain' | 'onMissing' | 'ownership'>,
): Promise<ServedImage> {
  const image = await openSettledImage(imagePath, withKeys(keys), chain);
  const disks = new StateDisks(image);
  disks.requireUnchanged();
  const common = commonOwnership(accessesOf(filesOfLayers(image.layers)));
  // Who may read the ciphertext need not know the passphrase.
  const isEncrypted = image.keys.some((key) => key !== undefined);
  for (const problem of image.problems) warn(`warning: ${problem}`);
  const mountNotes = { onMissing };
  return {
    imagePath,
    image,
    imageJson: createSharedTextMemory(maxImageJsonBytes(image, mountNotes)),
    mountNotes,
    ownership: overrideOwnership(
      isEncrypted ? { ...common, permissions: common.permissions & 0o400 } : common,
      ownership,
    ),
    missing: onMissing === 'zero' ? MissingRanges.createMemory() : undefined,
  };
}

/** Says how much was missing, overwrites its keys and closes its files. */
export function closeServedImage({ imagePath, image, missing }: ServedImage): void {
  const missingCount = missing === undefined ? 0n : new MissingRanges(missing).count;
  if (missingCount > 0n) warn(`${imagePath}: ${missingCount} ranges past the end of its files were read as zeros`);
  closeImage(image);
}

/** The tree of a served image; any thread can have one. */
export function createTree(served: ServedImage): FileSystem {
  const { image, missing, mountNotes } = served;
  const disks = new StateDisks(image, missing === undefined ? undefined : new MissingRanges(missing));
  const imageJson = new SharedText(served.imageJson, () => imageJsonPieces(image, mountNotes));
  const contents: Contents = {
    disk: (state) => disks.disk(state),
    vmState: (state) => disks.vmState(state),
    requireUnchanged: () => disks.requireUnchanged(),
    imageJson: () => imageJson.bytes(),
    infoJson: (state) => toJson(describeState(image, state)),
  };
  return new Tree(toCatalogue(served), contents);
}

function toCatalogue({ image, ownership }: ServedImage): Catalogue {
  return {
    ownership,
    time: modificationTime(image.layers[0]?.file),
    currentSizeBytes: image.qcow2.sizeBytes,
    snapshots: mapSequence(snapshotsOf(image), ({ entry, sizeBytes }) => ({
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

function describeState(image: OpenImage, state: number): object {
  const snapshot = state > 0 ? snapshotsOf(image).at(state - 1) : undefined;
  return snapshot === undefined ? { state: 'current', ...describeCurrent(image.qcow2) } : describeSnapshot(snapshot);
}

function toJson(value: object): Buffer {
  return Buffer.from(`${JSON.stringify(value, null, 2)}\n`);
}
