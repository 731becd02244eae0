/** The L1 tables of all states of an image. */

import { MAX_SNAPSHOT_COUNT, MAX_SNAPSHOT_EXTRA_DATA_BYTES, MAX_SNAPSHOT_TABLE_BYTES } from '../limits.ts';
import { activeL1TableProblem } from '../qcow2-image.ts';
import { l1TableProblem } from '../snapshots.ts';
import { decodeSnapshotEntryLengths, SNAPSHOT_ENTRY_FIXED_BYTES } from '../wire/snapshot-entry.ts';
import type { CheckedImage } from './checked-image.ts';
import { readZeroPadded } from './read-zero-padded.ts';

export interface L1Table {
  readonly offset: number;
  /** Entries. */
  readonly size: number;
  /** States that have this very table: one, in a healthy image. */
  times: number;
  /** It is the one of the current state. */
  readonly isActive: boolean;
}

export interface StateTables {
  readonly l1Tables: readonly L1Table[];
  readonly snapshotTableBytes: number;
}

/** In version 3, an entry holds at least the 64-bit VM state size and the disk size. */
const MIN_V3_EXTRA_DATA_BYTES = 16;

const CHUNK_BYTES = 64 * 1024;

/**
 * Finds the L1 table of the current state and that of each snapshot; tables that cannot be used are left out and told.
 * @throws Qcow2fsError IO.
 */
export function findStateTables(image: CheckedImage): StateTables {
  const { file, log } = image;
  const { l1Size, l1TableOffset } = file.header;
  const l1Tables: L1Table[] = [];
  const problem = activeL1TableProblem(file);
  if (problem !== undefined) log.add('l1-table', l1TableOffset, 1, () => problem);
  if (l1TableProblem(file, l1Size, l1TableOffset) === undefined) {
    l1Tables.push({ offset: l1TableOffset, size: l1Size, times: 1, isActive: true });
  }
  const snapshotTableBytes = addSnapshotTables(image, l1Tables);
  return { l1Tables, snapshotTableBytes };
}

/**
 * Calls `visit` with each entry that is not zero, as far as the file goes: QEMU takes what lies past its end for zeros.
 * @throws Qcow2fsError IO.
 */
export function forEachL1Entry(
  { file }: CheckedImage,
  table: L1Table,
  visit: (high: number, low: number, entryOffset: number) => void,
): void {
  const length = Math.min(table.size * 8, file.storage.sizeBytes - table.offset);
  const chunk = Buffer.alloc(Math.max(0, Math.min(CHUNK_BYTES, Math.ceil(length / 8) * 8)));
  for (let start = 0; start < length; start += CHUNK_BYTES) {
    const chunkBytes = Math.min(CHUNK_BYTES, table.size * 8 - start, chunk.length);
    readZeroPadded(file.storage, chunk, chunkBytes, table.offset + start);
    for (let at = 0; at < chunkBytes; at += 8) {
      const high = chunk.readUInt32BE(at);
      const low = chunk.readUInt32BE(at + 4);
      if (high !== 0 || low !== 0) visit(high, low, table.offset + start + at);
    }
  }
}

/** Returns the length of the snapshot table. */
function addSnapshotTables(image: CheckedImage, l1Tables: L1Table[]): number {
  const { file, log, hasDataFile } = image;
  const { snapshotCount, snapshotsOffset } = file.header;
  const unchecked = (offset: number, what: string): void => {
    log.add('unchecked', offset, 1, () => `${what}: its snapshots are not counted, and what they use may look leaked`);
  };
  if (snapshotCount === 0) return 0;
  if (snapshotCount > MAX_SNAPSHOT_COUNT) {
    unchecked(
      snapshotsOffset,
      `header field nb_snapshots is ${snapshotCount}, but at most ${MAX_SNAPSHOT_COUNT} may be`,
    );
    return 0;
  }
  if (snapshotsOffset % file.clusterBytes !== 0) {
    unchecked(snapshotsOffset, `header field snapshots_offset is ${snapshotsOffset}, which is not cluster aligned`);
    return 0;
  }
  if (hasDataFile) log.add('snapshot-table', snapshotsOffset, 1, () => 'an image with a data file has snapshots');
  const known = new Map<string, L1Table>();
  const fixed = Buffer.alloc(SNAPSHOT_ENTRY_FIXED_BYTES);
  let end = snapshotsOffset;
  for (let index = 0; index < snapshotCount; index++) {
    const offset = Math.ceil(end / 8) * 8;
    readZeroPadded(file.storage, fixed, fixed.length, offset);
    const { extraDataBytes, idBytes, nameBytes } = decodeSnapshotEntryLengths(fixed);
    const label = `snapshot table entry ${index}`;
    if (extraDataBytes > MAX_SNAPSHOT_EXTRA_DATA_BYTES) {
      unchecked(offset, `the snapshot table cannot be read from entry ${index} on: it has too much extra data`);
      break;
    }
    end = offset + SNAPSHOT_ENTRY_FIXED_BYTES + extraDataBytes + idBytes + nameBytes;
    if (end - snapshotsOffset > MAX_SNAPSHOT_TABLE_BYTES) {
      unchecked(offset, `the snapshot table is longer than ${MAX_SNAPSHOT_TABLE_BYTES} bytes at entry ${index}`);
      break;
    }
    if (file.header.version >= 3 && extraDataBytes < MIN_V3_EXTRA_DATA_BYTES) {
      log.add('snapshot-table', offset, 1, () => `${label} is incomplete: it has no disk size`);
    }
    addL1Table(image, fixed, offset, label, known);
  }
  l1Tables.push(...known.values());
  return end - snapshotsOffset;
}

function addL1Table(
  { file, log }: CheckedImage,
  fixed: Buffer,
  entryOffset: number,
  label: string,
  known: Map<string, L1Table>,
): void {
  const offset = Number(fixed.readBigUInt64BE(0));
  const size = fixed.readUInt32BE(8);
  const problem = l1TableProblem(file, size, offset);
  if (problem !== undefined) {
    log.add('l1-table', entryOffset, 1, () => `${label}: ${problem}`);
    return;
  }
  const key = `${offset}:${size}`;
  const table = known.get(key);
  if (table === undefined) known.set(key, { offset, size, times: 1, isActive: false });
  else table.times += 1;
}
