/** Composition: the images of one mount become the file system that it shows. */

import fs from 'node:fs';
import path from 'node:path';
import { Qcow2fsError } from '../errors.ts';
import type { FileSystem } from '../filesystem/file-system.ts';
import type { LayerKey } from '../open-image/layer-keys.ts';
import { filesOfLayers } from '../open-image/layers.ts';
import { fileIdentity } from '../storage/file-storage.ts';
import { toFileNames } from '../tree/file-names.ts';
import { ImageFolders, MAX_FOLDER_COUNT, type RootAttributes } from '../tree/image-folders.ts';
import { commonOwnership } from '../tree/ownership.ts';
import type { DaemonOptions } from './mount-options.ts';
import { closeServedImage, createTree, openServedImage, retireServedImage, type ServedImage } from './served-image.ts';

/** Each thread has directories of its own, whose names take 1 to 2 KiB for a snapshot. */
const MANY_SNAPSHOTS = 8192;

/** Everything a worker needs, as plain data. */
export interface ServedImages {
  /** In the order of the command line; one of them alone is the root of the mount. */
  readonly images: readonly ServedImage[];
  /** Each thread takes much memory for them, so that few are better. */
  readonly isHeavy: boolean;
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
  try {
    for (const [index, imagePath] of options.imagePaths.entries()) {
      const ownKeys = keys.filter(({ image }) => image === index);
      images.push(await openServedImage(imagePath, ownKeys, options).catch((error) => throwNaming(imagePath, error)));
    }
    for (const image of images) requireNotLog(image);
  } catch (error) {
    for (const image of images) closeServedImage(image);
    throw error;
  }
  return assemble(images, options);
}

/** What is served of these images together. */
export function assemble(images: readonly ServedImage[], options: DaemonOptions): ServedImages {
  const snapshotCount = images.reduce((sum, { image }) => sum + image.snapshotMemory.count, 0);
  return {
    images,
    isHeavy: snapshotCount > MANY_SNAPSHOTS,
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
  const reason = `${layers[0]?.file.path} needs it, and it is never written to; name another file`;
  throw new Qcow2fsError('REFUSED', `the log file is ${file.path}: ${reason}`, { data: { file: file.path } });
}

/** Overwrites their keys and closes their files. */
export function closeServedImages({ images }: ServedImages): void {
  for (const image of images) closeServedImage(image);
}

/** Closes the files of what was opened anew. */
export function retireServedImages(before: ServedImages, next: ServedImages): void {
  for (const image of before.images) if (!next.images.includes(image)) retireServedImage(image);
}

/** The file system over served images; any thread can have one. */
export function createFileSystem(served: ServedImages): FileSystem {
  return assembleTrees(served, false);
}

/** The same without what the disks would have to be read for: to be compared. */
export function createOutline(served: ServedImages): FileSystem {
  return assembleTrees(served, true);
}

function assembleTrees({ images, root }: ServedImages, isOutline: boolean): FileSystem {
  const trees = images.map((image) => createTree(image, isOutline));
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
