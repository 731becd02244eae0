/** The snapshot table of an image. */

import { messageOf, Qcow2fsError } from '../errors.ts';
import { readExactly } from '../storage/storage.ts';
import {
  MAX_L1_TABLE_BYTES,
  MAX_SNAPSHOT_COUNT,
  MAX_SNAPSHOT_EXTRA_DATA_BYTES,
  MAX_SNAPSHOT_NAMES_BYTES,
  MAX_SNAPSHOT_TABLE_BYTES,
  SECTOR_BYTES,
} from './limits.ts';
import type { Qcow2File, Qcow2Metadata } from './open-qcow2.ts';
import {
  decodeSnapshotEntry,
  decodeSnapshotEntryLengths,
  SNAPSHOT_ENTRY_FIXED_BYTES,
  type SnapshotEntry,
} from './wire/snapshot-entry.ts';

/** Bounds what is told of one table, as each of its 65,536 entries may be damaged. */
const MAX_TOLD_PROBLEMS = 100;

export interface Snapshot {
  readonly entry: SnapshotEntry;
  /** Position in the table, from 0. */
  readonly index: number;
  /** The snapshot's own virtual size; entries without one have the current size, as in QEMU. */
  readonly sizeBytes: number;
}

export interface SnapshotTable {
  readonly snapshots: readonly Snapshot[];
  /** What is wrong with the table, one line each; the snapshots above are those that can be told. */
  readonly problems: readonly string[];
}

/**
 * Reads the snapshot table. Damage never throws: it is told in `problems`. QEMU refuses the whole image for one
 * bad entry; here it costs that entry, and the ones behind it only if their place can no longer be told. A count that is
 * too high costs nothing: the table ends where its entries do.
 * @throws Qcow2fsError IO.
 */
export function readSnapshotTable(file: Qcow2File): SnapshotTable {
  const { snapshotCount, snapshotsOffset } = file.header;
  const snapshots: Snapshot[] = [];
  const problems: string[] = [];
  if (snapshotCount === 0) return { snapshots, problems };
  // Their clusters would share the data file with those of the current state; QEMU refuses to make or list them.
  if (file.hasDataFile) {
    problems.push(`header field nb_snapshots is ${snapshotCount}, but an image with an external data file has none`);
    return { snapshots, problems };
  }
  if (snapshotCount > MAX_SNAPSHOT_COUNT) {
    problems.push(`header field nb_snapshots is ${snapshotCount}, but at most ${MAX_SNAPSHOT_COUNT} are allowed`);
  }
  if (snapshotsOffset % file.clusterBytes !== 0) {
    problems.push(`header field snapshots_offset is ${snapshotsOffset}, which is not cluster aligned`);
    return { snapshots, problems };
  }
  let offset = snapshotsOffset;
  let namesBytes = 0;
  for (let index = 0; index < Math.min(snapshotCount, MAX_SNAPSHOT_COUNT); index++) {
    const label = `snapshot table entry ${index} at offset ${offset}`;
    try {
      const bytes = readEntryBytes(file, offset, label);
      offset += Math.ceil(bytes.length / 8) * 8;
      if (offset - snapshotsOffset > MAX_SNAPSHOT_TABLE_BYTES) {
        problems.push(`${label}: the snapshot table exceeds ${MAX_SNAPSHOT_TABLE_BYTES} bytes: the rest is not shown`);
        break;
      }
      const { idBytes, nameBytes } = decodeSnapshotEntryLengths(bytes);
      namesBytes += idBytes + nameBytes;
      if (namesBytes > MAX_SNAPSHOT_NAMES_BYTES) {
        problems.push(`${label}: all names together exceed ${MAX_SNAPSHOT_NAMES_BYTES} bytes: the rest is not shown`);
        break;
      }
      addSnapshot(file, bytes, index, label, snapshots, problems);
    } catch (error) {
      if (!(error instanceof Qcow2fsError) || error.code === 'IO') throw error;
      problems.push(`${label}: ${messageOf(error)}; it and the entries behind it are not shown`);
      break;
    }
  }
  return { snapshots, problems: shorten(problems) };
}

function shorten(problems: readonly string[]): readonly string[] {
  const rest = problems.length - MAX_TOLD_PROBLEMS;
  return rest <= 0 ? problems : [...problems.slice(0, MAX_TOLD_PROBLEMS), `and ${rest} more problems of snapshots`];
}

/** Why the L1 table of a snapshot cannot be used, or undefined. Rules: QEMU's qcow2_validate_table. */
export function l1TableProblem(file: Qcow2Metadata, l1Size: number, l1TableOffset: number): string | undefined {
  if (l1Size * 8 > MAX_L1_TABLE_BYTES) return `its L1 table has ${l1Size} entries, more than 32 MiB hold`;
  if (l1TableOffset % file.clusterBytes !== 0) return `its L1 table offset ${l1TableOffset} is not cluster aligned`;
  return undefined;
}

function addSnapshot(
  file: Qcow2File,
  bytes: Buffer,
  index: number,
  label: string,
  snapshots: Snapshot[],
  problems: string[],
): void {
  try {
    const entry = decodeSnapshotEntry(bytes);
    const size = entry.diskSizeBytes ?? file.header.size;
    const l1Problem = l1TableProblem(file, entry.l1Size, entry.l1TableOffset);
    if (l1Problem !== undefined) throw new Qcow2fsError('DAMAGED', l1Problem);
    snapshots.push({ entry, index, sizeBytes: size - (size % SECTOR_BYTES) });
  } catch (error) {
    problems.push(`${label}: ${messageOf(error)}; it is not shown`);
  }
}

/** The bytes of one entry without its padding. */
function readEntryBytes(file: Qcow2File, offset: number, label: string): Buffer {
  const fixed = Buffer.alloc(SNAPSHOT_ENTRY_FIXED_BYTES);
  readExactly(file.storage, fixed, 0, fixed.length, offset, label);
  const { extraDataBytes, idBytes, nameBytes } = decodeSnapshotEntryLengths(fixed);
  // QEMU lists such an entry as a snapshot without a name, taken in 1970. It gives every snapshot an id, and only to one of
  // an empty disk an L1 table at offset 0.
  if (idBytes === 0 && fixed.readBigUInt64BE(0) === 0n) {
    throw new Qcow2fsError('DAMAGED', 'it is empty, so nb_snapshots is too high or the table was overwritten');
  }
  if (extraDataBytes > MAX_SNAPSHOT_EXTRA_DATA_BYTES) {
    throw new Qcow2fsError(
      'DAMAGED',
      `its extra data has ${extraDataBytes} bytes, but at most ${MAX_SNAPSHOT_EXTRA_DATA_BYTES} are allowed`,
    );
  }
  const bytes = Buffer.alloc(SNAPSHOT_ENTRY_FIXED_BYTES + extraDataBytes + idBytes + nameBytes);
  readExactly(file.storage, bytes, 0, bytes.length, offset, label);
  return bytes;
}
