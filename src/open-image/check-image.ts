/** Checks an image file, alone: neither backing files, nor a data file, nor a key are needed. */

import { Qcow2fsError } from '../errors.ts';
import { type CheckOptions, type CheckResult, checkQcow2 } from '../qcow2/check/check-qcow2.ts';
import { isUnchanged } from '../storage/file-storage.ts';
import { closeLayers, openTopLayer, toQcow2File } from './layers.ts';

/** What `check --json` says. Keys as in `describe-image.ts`: scripts rely on them. */
export interface ImageCheck extends CheckResult {
  readonly image: string;
  /** Nothing was found, and everything was checked. */
  readonly isClean: boolean;
  readonly fileSizeBytes: number;
  readonly clusterSizeBytes: number;
}

/**
 * @throws Qcow2fsError NOT_FOUND, IO, NOT_QCOW2, DAMAGED, PAST_END or UNSUPPORTED if the image cannot be checked, STALE
 * if it was written to meanwhile.
 */
export function checkImage(imagePath: string, options: CheckOptions = {}): ImageCheck {
  const layer = openTopLayer(imagePath);
  const { file, qcow2 } = layer;
  try {
    // Some file systems do not tell what a file takes, and none does for a block device.
    const storedBytes = file.allocatedBytes || file.sizeBytes;
    const result = checkQcow2(toQcow2File(layer, qcow2), { storedBytes, ...options });
    if (!isUnchanged(file)) {
      throw new Qcow2fsError('STALE', `${imagePath} was written to during the check: shut its virtual machine down`, {
        data: { file: imagePath },
      });
    }
    const { corruptionCount, leakedClusterCount, uncheckedCount } = result;
    return {
      image: imagePath,
      isClean: corruptionCount === 0 && leakedClusterCount === 0 && uncheckedCount === 0,
      ...result,
      fileSizeBytes: file.sizeBytes,
      clusterSizeBytes: qcow2.clusterBytes,
    };
  } finally {
    closeLayers([layer]);
  }
}
