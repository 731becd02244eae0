/**
 * How far the kernel reads ahead of a sequential reader. Far is good where bytes are dear: several requests are under way at once, and
 * each worker has one to inflate or to decrypt. But the kernel knows nothing of holes: who reads data only, as `cp` does, has
 * zeros read for him behind each piece, up to twice that far (POSIX_FADV_SEQUENTIAL). On a disk that is mostly holes these come to
 * more than the data.
 */

import { MAX_READ_BYTES, READ_AHEAD_BYTES } from '../fuse/limits.ts';
import { filesOfLayers } from '../open-image/layers.ts';
import type { ServedImage } from './served-image.ts';

/** Of the bytes of a disk, those that its image stores. */
const SPARSE_SHARE = 1 / 4;

/** One number for all files of a mount. */
export function chooseReadAhead(images: readonly ServedImage[]): number {
  let diskBytes = 0;
  let storedBytes = 0;
  for (const { image } of images) {
    diskBytes += image.qcow2.sizeBytes;
    for (const file of filesOfLayers(image.layers)) {
      // A block device does not tell how much of it is in use.
      storedBytes += file.isBlockDevice ? file.sizeBytes : file.allocatedBytes;
    }
  }
  return storedBytes < diskBytes * SPARSE_SHARE ? MAX_READ_BYTES : READ_AHEAD_BYTES;
}
