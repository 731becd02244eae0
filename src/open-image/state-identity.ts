/** What a state is known by, however often its image is opened, moved or copied. */

import { createHash } from 'node:crypto';
import { meaningOf } from '../qcow2/header-head.ts';
import { snapshotIdentity } from '../qcow2/snapshots.ts';
import { filesOfLayers } from './layers.ts';
import { type OpenImage, snapshotsOf } from './open-image.ts';

/**
 * What has to be the same for a delta to belong to the state: of a snapshot what QEMU sets when it makes one, of the current state
 * that nobody has written to the image since, and of the files below that they were not written to.
 */
export function stateIdentity(image: OpenImage, state: number): string {
  const { layers, qcow2 } = image;
  const snapshot = snapshotsOf(image).at(state - 1);
  const [imageFile, ...otherFiles] = filesOfLayers(layers).map(({ sizeBytes, mtimeMs }) => [sizeBytes, mtimeMs]);
  const own =
    snapshot === undefined ? ['current', imageFile, qcow2.sizeBytes] : ['snapshot', snapshotIdentity(snapshot)];
  return createHash('sha256')
    .update(JSON.stringify([meaningOf(qcow2), own, otherFiles]))
    .digest('hex');
}
