/** Composition: an open image becomes the tree that a mount shows. */

import fs from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { warn } from '../common/logging.ts';
import { createSharedTextMemory, type SharedTextMemory } from '../common/shared-text.ts';
import { maxImageJsonBytes } from '../open-image/image-json.ts';
import { ImageStatus } from '../open-image/image-status.ts';
import type { LayerKey } from '../open-image/layer-key.ts';
import { withKeys } from '../open-image/layer-keys.ts';
import { filesOfLayers } from '../open-image/layers.ts';
import { closeImage, type OpenImage, openSettledImage, retireImage } from '../open-image/open-image.ts';
import { StateDisks } from '../open-image/state-disks.ts';
import { fileIdentity } from '../storage/file-storage.ts';
import { MissingRanges } from '../storage/missing-ranges.ts';
import { leadsNowhere, pinnedIdentity } from '../storage/pinned-file.ts';
import type { Ownership } from '../tree/catalogue.ts';
import { commonOwnership, type FileOwnership, overrideOwnership } from '../tree/ownership.ts';
import { announceWriters, markBusy, NOBODY } from './announce-writers.ts';
import { ChainWatch, type ChainWriters } from './chain-watch.ts';
import { type ContentBlocks, firstBlocks } from './content-blocks.ts';
import { accessesOf, findAccesses } from './file-access.ts';
import type { DaemonOptions, OnMissing } from './mount-options.ts';
import { readLocksAside } from './proc-locks.ts';
import type { Writer } from './writer-watch.ts';

/** What `image.json` says besides what the image does. */
interface MountNotes {
  /** Zeros for what is missing must not pass for data of the image. */
  readonly onMissing: OnMissing;
  /** While somebody writes to the image, the current state cannot be read. */
  readonly writer: WriterNote | null;
  /** While somebody writes to a file below, no state can. */
  readonly lowerWriter: (WriterNote & { readonly file: string }) | null;
}

interface WriterNote {
  readonly pid: number | null;
  readonly command: string | null;
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
  readonly writers: ChainWriters;
  /** Another file at the path of the image takes its place. Not where links of /proc lead elsewhere than they say, as in `pinFile`. */
  readonly isPathFollowed: boolean;
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
  try {
    return await serveImage(imagePath, image, options);
  } catch (error) {
    closeImage(image);
    throw error;
  }
}

async function serveImage(imagePath: string, image: OpenImage, options: ServingOptions): Promise<ServedImage> {
  // Each of these steps may take milliseconds: signals are heard in between.
  await turn();
  requireReadable(image);
  for (const problem of image.problems) warn(`warning: ${problem}`);
  const status = ImageStatus.createMemory();
  const ownership = toOwnership(image, options, await findAccesses(filesOfLayers(image.layers)));
  const locks = await readLocksAside().catch(() => undefined);
  const writers = new ChainWatch().lookFirst(image.layers, locks);
  markBusy(status, writers);
  announceWriters(imagePath, NOBODY, writers, options.isCurrentLive);
  return {
    imagePath,
    image,
    contents: firstBlocks(image, { isBeingWritten: writers.writer !== undefined, writerCount: 0, lowerWriterCount: 0 }),
    ownership,
    ...describedWith(image, options.onMissing, writers),
    missing: options.onMissing === 'zero' ? MissingRanges.createMemory() : undefined,
    status,
    isPathFollowed: isPathFollowed(imagePath),
    isCurrentLive: options.isCurrentLive,
  };
}

/**
 * False if the kernel finds a file by the name, and its text leads to none or another one. To ask the kernel is safe as long as nothing
 * is mounted. Twice, as the file may be replaced in between.
 */
function isPathFollowed(imagePath: string): boolean {
  return isPathText(imagePath) || isPathText(imagePath);
}

function isPathText(imagePath: string): boolean {
  let found: string;
  try {
    found = fileIdentity(fs.statSync(imagePath));
  } catch {
    // It was opened a moment ago, so that it was moved since: that is followed.
    return true;
  }
  try {
    return pinnedIdentity(imagePath) === found;
  } catch (error) {
    if (leadsNowhere(error)) return false;
    throw error;
  }
}

/** The part of a served image that is about its description. */
export function describedWith(
  image: OpenImage,
  onMissing: OnMissing,
  writers: ChainWriters,
): Pick<ServedImage, 'imageJson' | 'notes' | 'writers'> {
  const { writer, lowerWriter } = writers;
  const notes = {
    onMissing,
    writer: writer === undefined ? null : noteOf(writer),
    lowerWriter: lowerWriter === undefined ? null : { file: lowerWriter.path, ...noteOf(lowerWriter.writer) },
  };
  return { imageJson: createSharedTextMemory(maxImageJsonBytes(image, notes)), notes, writers };
}

function noteOf({ pid, command }: Writer): WriterNote {
  return { pid: pid ?? null, command: command ?? null };
}

/**
 * Every thread makes disks of it.
 * @throws Qcow2fsError DAMAGED if the state of a backing file cannot be read.
 */
export function requireReadable(image: OpenImage): void {
  new StateDisks(image);
}

/** Whom a tree of this image lets in. */
export function ownershipOf(image: OpenImage, options: ServingOptions, mountpoint: string): Ownership {
  return toOwnership(image, options, accessesOf(filesOfLayers(image.layers), mountpoint));
}

function toOwnership(image: OpenImage, options: ServingOptions, accesses: readonly FileOwnership[]): Ownership {
  const common = commonOwnership(accesses);
  // Who may read the ciphertext need not know the passphrase.
  const isEncrypted = image.keys.some((key) => key !== undefined);
  const permissions = isEncrypted ? common.permissions & 0o400 : common.permissions;
  return overrideOwnership({ ...common, permissions }, options.ownership);
}

/** As `retireImage`. */
export function retireServedImage({ image }: ServedImage, next: ServedImage): void {
  retireImage(image, next.image);
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
