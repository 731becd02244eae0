/** Ratios, and whether targets are met. */

import { qcow2fs } from '../peers/qcow2fs.mjs';
import { qemuNbd } from '../peers/qemu-nbd.mjs';
import { qemuStorageDaemon } from '../peers/qemu-storage-daemon.mjs';

/**
 * `ratio` is how many times as fast as `than` qcow2fs is, of memory how many times as much it takes. `than` is
 * qemu-storage-daemon, or qemu-nbd where that one cannot do it. `isMet` is undefined if there is no target.
 */
export function judge(row) {
  const than = [qemuStorageDaemon, qemuNbd].find(
    (peer) => row.results.get(peer)?.median !== undefined && [undefined, peer.name].includes(row.target?.than),
  );
  const ours = row.results.get(qcow2fs)?.median;
  const ratio = than === undefined || ours === undefined ? undefined : ratioOf(row, ours, row.results.get(than).median);
  return { than, ratio, isMet: row.target === undefined ? undefined : isMet(row.target, ours, ratio) };
}

/** As it stands in a table. */
export function describeTarget({ target, unit }) {
  if (target === undefined) return '';
  if (target.limit !== undefined) return `≤ ${target.limit} ${unit}`;
  return target.atLeast === undefined ? `≤ ${target.atMost}x` : `≥ ${target.atLeast}x`;
}

export function describeVerdict(isMet) {
  if (isMet === undefined) return '';
  return isMet ? 'met' : '**missed**';
}

function ratioOf({ better, isMemory }, ours, theirs) {
  return better === 'higher' || isMemory ? ours / theirs : theirs / ours;
}

function isMet({ atLeast, atMost, limit }, ours, ratio) {
  if (limit !== undefined) return ours <= limit;
  if (ratio === undefined) return false;
  return atLeast === undefined ? ratio <= atMost : ratio >= atLeast;
}
