/**
 * What is measured: an image, and what is done with it. A target is the least ratio to a peer (`atLeast`, of speed), the
 * greatest one (`atMost`, of memory), or a limit in the unit of the row. The peer is qemu-storage-daemon, or that of `than`.
 */

import {
  makeChain,
  makeCompressed,
  makeEncrypted,
  makeFragmented,
  makePlain,
  makeWithOptions,
  makeWithSubclusters,
} from './images/one-state.mjs';
import { makeManySnapshots, makeNights, makeTwins } from './images/snapshots.mjs';
import { makeFileSystem, makeSparse } from './images/sparse.mjs';
import { qemuNbd } from './peers/qemu-nbd.mjs';
import { allAtOnce, randomReads, sequential, sequentialDirect } from './tasks/fio.mjs';
import { memoryOfAllAtOnce } from './tasks/memory.mjs';
import { archive, compare, copySparse, hash } from './tasks/programs.mjs';
import { memoryAtRest, openLastSnapshot, startUntilReadable } from './tasks/start.mjs';

const MAX_START_MS = 200;
const MAX_MIB_AT_REST = 100;
const NBD = qemuNbd.name;

export const CASES = [
  {
    title: 'plain',
    make: makePlain,
    tasks: [
      { ...sequential, target: { atLeast: 2 } },
      { ...sequentialDirect, target: { atLeast: 3.5 } },
      { ...randomReads(1), target: { atLeast: 2 } },
      { ...randomReads(4), target: { atLeast: 4 } },
      randomReads(16),
      { ...startUntilReadable, target: { limit: MAX_START_MS } },
      { ...memoryAtRest, target: { limit: MAX_MIB_AT_REST } },
    ],
  },
  { title: 'clusters of 4 KiB', make: makeWithOptions('cluster_size=4k'), tasks: few(sequential, randomReads(1)) },
  { title: 'clusters of 2 MiB', make: makeWithOptions('cluster_size=2M'), tasks: few(sequential, randomReads(1)) },
  { title: 'extended L2', make: makeWithSubclusters, tasks: few(sequential, randomReads(1)) },
  { title: '8 backing files', make: makeChain, tasks: few(sequential, randomReads(1)) },
  { title: 'fragmented', make: makeFragmented, tasks: few(sequential, randomReads(1)) },
  { title: 'zlib', make: makeCompressed('zlib'), tasks: compressed() },
  { title: 'zstd', make: makeCompressed('zstd'), tasks: compressed() },
  {
    title: 'LUKS, aes-256-xts',
    make: makeEncrypted,
    tasks: [{ ...sequential, target: { atLeast: 1.2 } }, ...few(randomReads(1))],
  },
  { title: '64 GiB disk, 1 GiB of data', make: makeSparse, tasks: few({ ...copySparse, target: { atLeast: 1.5 } }) },
  { title: 'ext4, 20,000 files', make: makeFileSystem, tasks: few({ ...archive, target: { atLeast: 1.5 } }) },
  { title: '2 snapshots', make: makeTwins, tasks: few(compare) },
  {
    title: '7 snapshots',
    make: makeNights,
    tasks: few(
      { ...allAtOnce, target: { than: NBD, atLeast: 3 } },
      { ...memoryOfAllAtOnce, target: { than: NBD, atMost: 1 / 2 } },
    ),
  },
  {
    title: '1,000 snapshots of 16 TiB',
    make: makeManySnapshots,
    tasks: [
      {
        ...startUntilReadable,
        title: `${startUntilReadable.title}, the last snapshot`,
        target: { limit: MAX_START_MS },
      },
      openLastSnapshot,
    ],
  },
];

function compressed() {
  return few({ ...sequential, target: { atLeast: 1.5 } }, { ...hash, target: { atLeast: 1.5 } });
}

/** Tasks that take long, or that nothing is asked of. */
function few(...tasks) {
  return tasks.map((task) => ({ ...task, hasFewRounds: true }));
}
