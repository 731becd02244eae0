/** What tells that the files of an image are not what they were: their time stamps, who may read them, and where their paths lead. */

import fs from 'node:fs';
import { systemCodeOf } from '../errors.ts';
import { filesOfLayers, imageFileOf } from '../open-image/layers.ts';
import type { OpenImage } from '../open-image/open-image.ts';
import type { OpenFile } from '../storage/file-storage.ts';
import { isOutOfReach, leadsNowhere, type PinnedFile, pinFile, unpinFile } from '../storage/pinned-file.ts';
import type { ServedImage } from './served-image.ts';

/** What stat(2) tells of a file, and what its path leads to. */
interface FileSignature {
  readonly stamps: unknown;
  /** Mode and owner. */
  readonly access: unknown;
  /** The identity of a file, of the image with its place behind it; or `NOWHERE` and why. */
  readonly target: string;
}

export interface ImageSignature {
  readonly image: FileSignature | undefined;
  readonly others: readonly FileSignature[];
}

/** What `target` begins with if the path leads to no file that may be opened. */
export const NOWHERE = 'nowhere: ';

/** Of now: by their descriptors, and whether their paths still lead to them. */
export function signatureOf({ image: { layers }, isPathFollowed }: ServedImage, mountpoint: string): ImageSignature {
  const [image, ...others] = filesOfLayers(layers).map(
    (file, index): FileSignature => ({
      ...statOf(file),
      target: index > 0 || isPathFollowed ? targetAt(file.path, mountpoint, index === 0) : file.identity,
    }),
  );
  return { image, others };
}

/** Of when it was opened: a change since then is one to be noticed. */
export function openedSignatureOf({ layers }: OpenImage, target: string | undefined): ImageSignature {
  const [image, ...others] = filesOfLayers(layers).map((file, index): FileSignature => {
    const { sizeBytes, mtimeMs, ctimeMs, isBlockDevice, mode, uid, gid, identity } = file;
    const stamps = isBlockDevice ? [mtimeMs, ctimeMs] : [sizeBytes, mtimeMs, ctimeMs];
    return { stamps, access: [mode, uid, gid], target: (index === 0 ? target : undefined) ?? identity };
  });
  return { image, others };
}

function statOf({ fd, isBlockDevice }: OpenFile): Omit<FileSignature, 'target'> {
  try {
    const { size, mtimeMs, ctimeMs, mode, uid, gid } = fs.fstatSync(fd);
    return { stamps: isBlockDevice ? [mtimeMs, ctimeMs] : [size, mtimeMs, ctimeMs], access: [mode, uid, gid] };
  } catch (error) {
    return { stamps: systemCodeOf(error), access: undefined };
  }
}

function targetAt(path: string, mountpoint: string, hasPlace: boolean): string {
  try {
    const pinned = pinFile(path, mountpoint);
    unpinFile(pinned);
    return hasPlace ? targetOf(pinned) : pinned.identity;
  } catch (error) {
    if (isOutOfReach(error)) return `${NOWHERE}${error.message}`;
    throw error;
  }
}

/** Of an image: which file it is, and where. */
export function targetOf({ identity, realPath }: PinnedFile): string {
  return `${identity} ${realPath}`;
}

/**
 * Where the path of an image leads, as if it had been asked when the image was opened: by now that may be another file.
 * undefined if it is not followed.
 */
export function firstTargetOf(
  { image, imagePath, isPathFollowed }: ServedImage,
  mountpoint: string,
): string | undefined {
  if (!isPathFollowed) return undefined;
  const { identity } = imageFileOf(image.layers);
  const target = targetAt(imagePath, mountpoint, true);
  return target.startsWith(`${identity} `) ? target : NOWHERE;
}

/**
 * What the path leads to; undefined if that is nothing, or cannot be reached any more.
 * @throws Qcow2fsError REFUSED for what leads into the mount; what `pinFile` throws if this process cannot look.
 */
export function tryToPin(path: string, mountpoint: string): PinnedFile | undefined {
  try {
    return pinFile(path, mountpoint);
  } catch (error) {
    if (leadsNowhere(error)) return undefined;
    throw error;
  }
}
