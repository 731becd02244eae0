/** The text of `image.json`. */

import { toJsonPieces } from '../common/json-pieces.ts';
import { describeInfo } from './describe-image.ts';
import { type ImageHeader, snapshotsOf } from './open-image.ts';

/** Of a snapshot as JSON, besides its id and its name: names of properties, numbers, indentation. */
const MAX_SNAPSHOT_FRAME_BYTES = 512;
/** A control character becomes six, and two more in `nameHex` if another byte of the name is not UTF-8. */
const MAX_JSON_BYTES_PER_BYTE = 8;

/** The text piece by piece: that of `info --json`, with `more` behind it. */
export function* imageJsonPieces(image: ImageHeader, more: object): Generator<string> {
  yield* toJsonPieces({ ...describeInfo(image), ...more });
  yield '\n';
}

/** A bound for the length of this text, found without describing the snapshots. */
export function maxImageJsonBytes(image: ImageHeader, more: object): number {
  let bytes = 1;
  for (const piece of toJsonPieces({ ...describeInfo(image), snapshots: [], ...more }))
    bytes += Buffer.byteLength(piece);
  const snapshots = snapshotsOf(image);
  for (let index = 0; index < snapshots.length; index++) {
    bytes += MAX_SNAPSHOT_FRAME_BYTES + snapshots.namesBytes(index) * MAX_JSON_BYTES_PER_BYTE;
  }
  return bytes;
}
