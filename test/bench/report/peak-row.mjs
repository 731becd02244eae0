/** The most memory that each peer had in any case. */

import { qcow2fs } from '../peers/qcow2fs.mjs';

const MIB = 2 ** 20;
const MAX_MIB = 256;

/** `peaks`: from peers to bytes. */
export function peakRow(peaks) {
  const results = new Map(
    [...peaks]
      .filter(([{ isRaw }]) => !isRaw)
      .map(([peer, bytes]) => [peer, { median: bytes / MIB, rounds: [bytes / MIB] }]),
  );
  const target = peaks.has(qcow2fs) ? { limit: MAX_MIB } : undefined;
  return { group: 'all', title: 'peak memory', unit: 'MiB', better: 'lower', isMemory: true, target, results };
}
