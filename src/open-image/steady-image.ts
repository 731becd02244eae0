/** Work on the tables of an image that may be written to meanwhile: what it gives is about snapshots that were there all the time. */

import { Qcow2fsError } from '../errors.ts';
import { readHead, snapshotFields } from '../qcow2/header-head.ts';
import type { Qcow2File } from '../qcow2/open-qcow2.ts';
import { isSameTable, readSnapshotTable } from '../qcow2/snapshots.ts';
import { isSettled, isUnchanged } from '../storage/file-storage.ts';
import { closeLayers, toQcow2File } from './layers.ts';
import { type ImageHeader, openImageHeader } from './open-image.ts';

const MAX_ATTEMPTS = 20;

/**
 * Opens the image, without its backing files, and gives what `body` makes of it. It is called again if snapshots were made or
 * deleted meanwhile.
 * @throws Qcow2fsError as `openImageHeader`; what `body` throws; STALE if the image does not come to rest.
 */
export function withSteadyImage<Value>(
  imagePath: string,
  body: (header: ImageHeader, file: Qcow2File) => Value,
): Value {
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    const header = openImageHeader(imagePath);
    try {
      const file = fileOf(header);
      const outcome = outcomeOf(() => body(header, file));
      if (!isSteady(header, file)) continue;
      // Only now it is known that it is about the image, and not about whatever was found in its place.
      if ('failure' in outcome) throw outcome.failure;
      return outcome.value;
    } finally {
      closeLayers(header.layers);
    }
  }
  throw new Qcow2fsError('STALE', `${imagePath}: snapshots are made and deleted too fast for this: try again later`, {
    data: { file: imagePath },
  });
}

function outcomeOf<Value>(make: () => Value): { readonly value: Value } | { readonly failure: unknown } {
  try {
    return { value: make() };
  } catch (failure) {
    return { failure };
  }
}

/** The order counts: see `snapshot-liveness.ts`. A file that was not touched at all needs no look at its table. */
function isSteady({ head, layers: [layer], snapshotMemory }: ImageHeader, file: Qcow2File): boolean {
  if (layer !== undefined && !layer.file.isBlockDevice && isSettled(layer.file) && isUnchanged(layer.file)) return true;
  const isSameHead = snapshotFields(readHead(file.storage, file)).equals(snapshotFields(Buffer.from(head)));
  return isSameHead && isSameTable(snapshotMemory, readSnapshotTable(file).memory);
}

function fileOf({ layers: [layer], qcow2 }: ImageHeader): Qcow2File {
  if (layer === undefined) throw new Qcow2fsError('INTERNAL', 'an image without a layer');
  return toQcow2File(layer, qcow2);
}
