/**
 * Uses the delta of a large disk, and prints what that takes: a process of its own, so that its memory is that of the delta.
 * Usage: node large-disk-program.mjs throw-away|kept FOLDER SIZE_BYTES
 */

import fs from 'node:fs';
import { Delta } from '../../dist/overlay/delta.js';
import { closeDelta, createTemporaryDelta, openKeptDelta } from '../../dist/overlay/open-delta.js';
import { OverlayDisk } from '../../dist/overlay/overlay-disk.js';

const [, , kind, folder, size] = process.argv;
const sizeBytes = Number(size);
const TIB = 2 ** 40;

const base = {
  sizeBytes,
  extentAt(_offset, maxLengthBytes, into) {
    Object.assign(into, { kind: 'hole', lengthBytes: maxLengthBytes, hostOffset: -1, depth: 0 });
  },
  readAt: (target, targetOffset, _offset, length) => target.fill(0, targetOffset, targetOffset + length),
  allocatedBytes: () => 0,
  metadataBytes: () => 0,
};

/** What is in memory, in KiB. */
function memoryKib() {
  return Number(/^VmRSS:\s*(\d+) kB$/m.exec(fs.readFileSync('/proc/self/status', 'utf8'))[1]);
}

/** Of the processor, also in other threads: what a busy machine makes it wait does not count. */
function usedMs() {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

function measureMs(body) {
  const start = usedMs();
  body();
  return usedMs() - start;
}

async function open() {
  if (kind === 'throw-away') return createTemporaryDelta({ sizeBytes, maxBytes: TIB, folder });
  const names = { imagePath: 'a', stateText: 'b', identity: 'c' };
  return openKeptDelta(`${folder}/delta`, { sizeBytes, maxBytes: TIB, ...names });
}

const block = Buffer.alloc(4096, 1);
const before = memoryKib();
const results = {};
const start = usedMs();
let memory = await open();
results.openMs = usedMs() - start;
let disk = new OverlayDisk(base, new Delta(memory), () => {});
// 16 MiB in pieces of 4 KiB, all over the disk.
const step = Math.floor(sizeBytes / 4096 / 4096) * 4096;
results.writeMs = measureMs(() => {
  for (let at = 0; at < 4096; at++) disk.writeAt(block, 0, at * step, 4096);
});
results.usedBytes = disk.usedBytes;
results.writtenKib = memoryKib() - before;
results.walkMs = measureMs(() => {
  results.allocatedBytes = disk.allocatedBytes();
});
if (kind === 'kept') {
  results.syncMs = measureMs(() => disk.sync());
  closeDelta(memory);
  const again = usedMs();
  memory = await open();
  results.reopenMs = usedMs() - again;
  disk = new OverlayDisk(base, new Delta(memory), () => {});
  results.reopenedBytes = disk.usedBytes;
}
results.discardMs = measureMs(() => disk.discardAt(4096 + 100, 3 * TIB));
results.discardAllMs = measureMs(() => disk.discardAt(0, sizeBytes));
results.leftBytes = disk.usedBytes;
results.totalKib = memoryKib() - before;
closeDelta(memory);
process.stdout.write(JSON.stringify(results));
