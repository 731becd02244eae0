/**
 * Writes to a kept delta and syncs it, in a loop, and prints what it has synced: to be killed at any moment.
 * Usage: node kept-program.mjs FILE SIZE_BYTES FIRST_ROUND
 * Each line: a round, whose number all blocks that were written in it are full of. A round whose number is a multiple of 5
 * discards its blocks instead.
 */

import fs from 'node:fs';
import { Delta } from '../../dist/overlay/delta.js';
import { openKeptDelta } from '../../dist/overlay/open-delta.js';
import { OverlayDisk } from '../../dist/overlay/overlay-disk.js';
import { blocksOfRound } from './kept-rounds.mjs';

const [, , file, size, first] = process.argv;
const sizeBytes = Number(size);
const memory = await openKeptDelta(file, {
  ...{ sizeBytes, maxBytes: 2 ** 40 },
  ...{ imagePath: '/images/a.qcow2', stateText: 'snapshot "monday"', identity: 'kill' },
});
const base = {
  sizeBytes,
  extentAt: () => {},
  readAt: (target, targetOffset, _offset, length) => target.fill(0xbb, targetOffset, targetOffset + length),
  allocatedBytes: () => 0,
  metadataBytes: () => 0,
};
const disk = new OverlayDisk(base, new Delta(memory), () => {});
for (let round = Number(first); ; round++) {
  for (const block of blocksOfRound(round, sizeBytes / 4096)) {
    if (round % 5 === 0) disk.discardAt(block * 4096, 4096);
    else disk.writeAt(Buffer.alloc(4096, round % 251), 0, block * 4096, 4096);
  }
  disk.sync();
  fs.writeSync(1, `${round}\n`);
}
