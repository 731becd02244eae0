/** Tells readers and the log who writes to an image, and to the files that it stands on. */

import { isDeepStrictEqual } from 'node:util';
import { warn } from '../common/logging.ts';
import { ImageStatus } from '../open-image/image-status.ts';
import type { ChainWriters } from './chain-watch.ts';
import { nameOfWriter, type Writer } from './writer-watch.ts';

export const NOBODY: ChainWriters = { writer: undefined, lowerWriter: undefined };

/** `status` is the memory of `ImageStatus`. What was read before a writer was there stays busy when he has gone. */
export function markBusy(status: SharedArrayBuffer, { writer, lowerWriter }: ChainWriters): void {
  const flags = new ImageStatus(status);
  if (writer !== undefined) flags.isBusy = true;
  if (lowerWriter !== undefined) flags.busyLowerFile = lowerWriter.index;
}

/** True if the status says just that. */
export function isMarked(status: SharedArrayBuffer, { writer, lowerWriter }: ChainWriters): boolean {
  const { isBusy, busyLowerFile } = new ImageStatus(status);
  return isBusy === (writer !== undefined) && busyLowerFile === (lowerWriter?.index ?? 0);
}

/** Logs who has begun or ceased to write. */
export function announceWriters(
  imagePath: string,
  before: ChainWriters,
  { writer, lowerWriter }: ChainWriters,
  isCurrentLive: boolean,
): void {
  if (!isDeepStrictEqual(writer, before.writer)) {
    if (writer !== undefined)
      warn(`${imagePath} is written to by ${nameOfWriter(writer)}: ${consequenceOf(writer, isCurrentLive)}`);
    else
      warn(
        `${imagePath} is not written to any more${lowerWriter === undefined ? ': its current state is what it holds now' : ''}`,
      );
  }
  if (isDeepStrictEqual(lowerWriter, before.lowerWriter)) return;
  if (lowerWriter === undefined) {
    warn(`${imagePath} stands on no file any more that is written to`);
    return;
  }
  const unreadable = isCurrentLive ? 'none of its snapshots' : 'none of its states';
  warn(
    `${lowerWriter.path} is written to by ${nameOfWriter(lowerWriter.writer)}: ${imagePath} stands on it, and ${unreadable} can be read meanwhile`,
  );
}

function consequenceOf({ how }: Writer, isCurrentLive: boolean): string {
  if (isCurrentLive) return 'its current state is read as it is, and may be inconsistent';
  const meanwhile = 'its current state cannot be read meanwhile, its snapshots can';
  // Without a lock it may be anything: what another program writes in its place is none of QEMU's order.
  return how === 'lock' ? meanwhile : `${meanwhile}, if it is a virtual machine`;
}
