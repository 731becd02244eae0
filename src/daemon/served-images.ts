/** Composition: the images of one mount become the file system that it shows. */

import fs from 'node:fs';
import path from 'node:path';
import { Qcow2fsError } from '../errors.ts';
import type { FileSystem } from '../filesystem/file-system.ts';
import type { LayerKey } from '../open-image/layer-key.ts';
import { filesOfLayers, imageFileOf } from '../open-image/layers.ts';
import { Delta } from '../overlay/delta.ts';
import { fileIdentity } from '../storage/file-storage.ts';
import { toFileNames } from '../tree/file-names.ts';
import { ImageFolders, MAX_FOLDER_COUNT, type RootAttributes } from '../tree/image-folders.ts';
import { commonOwnership } from '../tree/ownership.ts';
import { chooseReadAhead } from './choose-read-ahead.ts';
import { finishScratch } from './finish-scratch.ts';
import type { DaemonOptions } from './mount-options.ts';
import { requireExportable } from './require-exportable.ts';
import { closeServedImage, openServedImage, retireServedImage, type ServedImage } from './served-image.ts';
import {
  closeScratch,
  createScratchFileSystem,
  openScratch,
  type ServedScratch,
  tellIfGone,
} from './served-scratch.ts';
import { createTree } from './served-tree.ts';

/** Each thread has directories of its own, whose names take 1 to 2 KiB for a snapshot. */
const MANY_SNAPSHOTS = 8192;

/** Everything a worker needs, as plain data. */
export interface ServedImages {
  /** In the order of the command line; one of them alone is the root of the mount. */
  readonly images: readonly ServedImage[];
  /** A view of one state of the only image, in place of its tree. */
  readonly scratch: ServedScratch | undefined;
  /** Each thread takes much memory for them, so that few are better. */
  readonly isHeavy: boolean;
  /** As `chooseReadAhead`. */
  readonly readAheadBytes: number;
  /** Of the directory above several. */
  readonly root: RootAttributes;
}

/**
 * Opens all images, or none.
 * @throws Qcow2fsError with what is wrong, naming the image.
 */
export async function openServedImages(options: DaemonOptions, keys: readonly LayerKey[]): Promise<ServedImages> {
  if (options.imagePaths.length > MAX_FOLDER_COUNT) {
    throw new Qcow2fsError('USAGE', `at most ${MAX_FOLDER_COUNT} images can be mounted at once`);
  }
  const images: ServedImage[] = [];
  let scratch: ServedScratch | undefined;
  try {
    for (const [index, imagePath] of options.imagePaths.entries()) {
      const ownKeys = keys.filter(({ image }) => image === index);
      images.push(await openServedImage(imagePath, ownKeys, options).catch((error) => throwNaming(imagePath, error)));
    }
    for (const image of images) requireNotLog(image);
    const [only] = images;
    if (only !== undefined) requireExportable(only, options);
    scratch = options.scratch && only && (await openScratch(only, options.scratch));
    return assemble(images, options, scratch);
  } catch (error) {
    closeServedImages({ images, scratch });
    throw error;
  }
}

/** What is served of these images together. */
export function assemble(
  images: readonly ServedImage[],
  options: DaemonOptions,
  scratch: ServedScratch | undefined,
): ServedImages {
  const [only] = images;
  if (only !== undefined && scratch !== undefined && options.scratch !== undefined) {
    tellIfGone(only, scratch, options.scratch.state);
  }
  const snapshotCount = images.reduce((sum, { image }) => sum + image.snapshotMemory.count, 0);
  return {
    images,
    scratch,
    isHeavy: snapshotCount > MANY_SNAPSHOTS,
    readAheadBytes: chooseReadAhead(images),
    root: rootAttributes(images, options.ownership.umask ?? 0),
  };
}

function throwNaming(imagePath: string, error: unknown): never {
  if (!(error instanceof Qcow2fsError) || error.message.includes(imagePath)) throw error;
  throw new Qcow2fsError(error.code, `${imagePath}: ${error.message}`, { data: error.data, cause: error });
}

/** stderr is the log. That it is none of the images is checked before it is opened; here it is the files below them. */
function requireNotLog({ image: { layers } }: ServedImage): void {
  const log = fileIdentity(fs.fstatSync(process.stderr.fd));
  const file = filesOfLayers(layers).find(({ identity }) => identity === log);
  if (file === undefined) return;
  const reason = `${imageFileOf(layers).path} needs it, and it is never written to; name another file`;
  throw new Qcow2fsError('REFUSED', `the log file is ${file.path}: ${reason}`, { data: { file: file.path } });
}

/** Overwrites their keys and closes their files. */
export function closeServedImages({ images, scratch }: Pick<ServedImages, 'images' | 'scratch'>): void {
  if (scratch !== undefined) closeScratch(scratch);
  for (const image of images) closeServedImage(image);
}

/** Returns the exit code of the process, early once `signal` is aborted. */
export async function finish(
  { images: [image], scratch }: ServedImages,
  options: DaemonOptions,
  signal: AbortSignal,
): Promise<number> {
  return image === undefined || scratch === undefined ? 0 : finishScratch(image, scratch, options, signal);
}

/** What a thread that has ended may have held is free again. */
export function onThreadEnd({ scratch }: ServedImages, threadId: number): void {
  if (scratch !== undefined) new Delta(scratch.delta).releaseLockOf(threadId);
}

/** Closes the files of what was opened anew, and forgets the keys that are used no more. */
export function retireServedImages(before: ServedImages, next: ServedImages): void {
  for (const [index, image] of before.images.entries()) {
    const now = next.images[index];
    if (now !== undefined && now !== image) retireServedImage(image, now);
  }
}

/** The file system over served images; any thread can have one. */
export function createFileSystem(served: ServedImages): FileSystem {
  return assembleTrees(served, false);
}

/** The same without what the disks would have to be read for, but with the nodes that were found there: to be compared. */
export function createOutline(served: ServedImages): FileSystem {
  return assembleTrees(served, true);
}

function assembleTrees({ images, root, scratch }: ServedImages, isOutline: boolean): FileSystem {
  const [image] = images;
  if (image !== undefined && scratch !== undefined) return createScratchFileSystem(image, scratch, isOutline);
  const trees = images.map((each) => createTree(each, { isOutline }));
  const [only] = trees;
  if (only !== undefined && trees.length === 1) return only;
  const names = toFolderNames(images.map(({ imagePath }) => imagePath));
  return new ImageFolders(
    trees.map((tree, index) => ({ tree, name: names[index] ?? '' })),
    root,
  );
}

/** The names of the files without their last endings; later ones of a name get `%id=N` with their place behind it. */
export function toFolderNames(imagePaths: readonly string[]): string[] {
  return toFileNames(
    imagePaths.map((imagePath, index) => ({
      name: Buffer.from(path.basename(imagePath, path.extname(imagePath))).toString('latin1'),
      id: String(index + 1),
    })),
  );
}

/** Who may read all images may list them; everybody gets through to those that they may read. */
function rootAttributes(images: readonly ServedImage[], umask: number): RootAttributes {
  const trees = images.map(({ ownership: { permissions, uid, gid } }) => ({ mode: permissions, uid, gid }));
  const { permissions, uid, gid } = commonOwnership(trees);
  return { permissions: (permissions | 0o111) & ~umask, uid, gid };
}
