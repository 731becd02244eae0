/** The L1 tables of all states of an image. */

import { ReadAheadStorage } from '../../storage/read-ahead-storage.ts';
import { MAX_SNAPSHOT_COUNT, MAX_SNAPSHOT_EXTRA_DATA_BYTES, MAX_SNAPSHOT_TABLE_BYTES } from '../limits.ts';
import { activeL1TableProblem } from '../qcow2-image.ts';
import { l1TableProblem } from '../snapshots.ts';
import { decodeSnapshotEntryLengths, SNAPSHOT_ENTRY_FIXED_BYTES } from '../wire/snapshot-entry.ts';
import type { CheckedImage } from './checked-image.ts';
import { type MetadataTable, MetadataTables } from './metadata-tables.ts';
import { readZeroPadded } from './read-zero-padded.ts';
import { CLUSTER_USES } from './reference-window.ts';

export interface StateTables {
  readonly l1Tables: MetadataTables;
  readonly snapshotTableBytes: number;
}

/** In version 3, an entry holds at least the 64-bit VM state size and the disk size. */
const MIN_V3_EXTRA_DATA_BYTES = 16;

/**
 * Finds the L1 table of the current state and that of each snapshot; tables that cannot be used are left out and told.
 * @throws Qcow2fsError IO.
 */
export function findStateTables(image: CheckedImage): StateTables {
  const { file, log } = image;
  const { l1Size, l1TableOffset } = file.header;
  const tables: MetadataTable[] = [];
  const problem = activeL1TableProblem(file);
  if (problem !== undefined) log.add('l1-table', l1TableOffset, 1, () => problem);
  if (l1TableProblem(file, l1Size, l1TableOffset) === undefined) {
    tables.push({ offset: l1TableOffset, size: l1Size });
  }
  const active = tables.at(0);
  const snapshotTableBytes = addSnapshotTables(image, tables);
  return { l1Tables: new MetadataTables(image, tables, CLUSTER_USES.l1Table, active), snapshotTableBytes };
}

/** Returns the length of the snapshot table. */
function addSnapshotTables(image: CheckedImage, tables: MetadataTable[]): number {
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
  const fixed = Buffer.alloc(SNAPSHOT_ENTRY_FIXED_BYTES);
  const storage = new ReadAheadStorage(file.storage);
  let end = snapshotsOffset;
  for (let index = 0; index < snapshotCount; index++) {
    const offset = Math.ceil(end / 8) * 8;
    readZeroPadded(storage, fixed, fixed.length, offset);
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
    addL1Table(image, fixed, offset, label, tables);
  }
  return end - snapshotsOffset;
}

function addL1Table(
  { file, log }: CheckedImage,
  fixed: Buffer,
  entryOffset: number,
  label: string,
  tables: MetadataTable[],
): void {
  const offset = Number(fixed.readBigUInt64BE(0));
  const size = fixed.readUInt32BE(8);
  const problem = l1TableProblem(file, size, offset);
  if (problem !== undefined) {
    log.add('l1-table', entryOffset, 1, () => `${label}: ${problem}`);
    return;
  }
  tables.push({ offset, size });
}
