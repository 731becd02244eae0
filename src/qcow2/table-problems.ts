/**
 * What the L1 tables of an image refer to that cannot be there. It is looked for on opening, so that it is told before a
 * read meets it; the tables below are left to the reads and to `check`, as there are too many of them.
 */

import type { Sequence } from '../common/sequence.ts';
import { messageOf, Qcow2fsError } from '../errors.ts';
import type { Qcow2File } from './open-qcow2.ts';
import { activeL1TableProblem } from './qcow2-image.ts';
import type { Snapshot } from './snapshots.ts';
import { entryOffset } from './wire/table-entries.ts';

/** Bounds what opening an image reads, whatever it says: at the usual cluster size, these tables map 256 TiB. */
const MAX_SCANNED_BYTES = 4 * 1024 * 1024;
const CHUNK_BYTES = 64 * 1024;
/** Bounds the list: an image that was cut has one problem after the other. */
const MAX_LISTED_PER_TABLE = 8;
const MAX_LISTED = 100;

interface L1Table {
  /** Whose it is. */
  readonly label: string;
  readonly offset: number;
  readonly lengthBytes: number;
}

/**
 * L1 tables that end behind the file, and L2 tables that begin behind it or are not cluster aligned, one line each with the
 * offset in the file. Tables that `activeL1TableProblem` and `readSnapshotTable` tell of are left out.
 */
export function findTableProblems(file: Qcow2File, snapshots: Sequence<Snapshot>): string[] {
  const problems: string[] = [];
  let budgetBytes = MAX_SCANNED_BYTES;
  for (const table of distinctTablesOf(file, snapshots)) {
    if (problems.length >= MAX_LISTED) {
      problems.push('there are more problems of this kind: `qcow2fs check` counts them');
      break;
    }
    if (table.offset + table.lengthBytes > file.storage.sizeBytes) {
      const what = `its L1 table at offset ${table.offset} (${table.lengthBytes} bytes)`;
      problems.push(`${table.label}: ${what} lies past the end of the file (${file.storage.sizeBytes} bytes)`);
    }
    const scannedBytes = Math.min(table.lengthBytes, budgetBytes);
    budgetBytes -= scannedBytes;
    addEntryProblems(file, table, scannedBytes, problems);
  }
  return problems;
}

/**
 * Each table once, for the first of the states that share it. Found by sorting numbers: a set of the tables of 65,536
 * snapshots takes 20 MiB, and a hash table of our own could be made slow by an image.
 */
function* distinctTablesOf(file: Qcow2File, snapshots: Sequence<Snapshot>): Iterable<L1Table> {
  const offsets = new Float64Array(snapshots.length + 1);
  const lengths = new Float64Array(snapshots.length + 1);
  let count = 0;
  for (const { offset, lengthBytes } of tablesOf(file, snapshots)) {
    offsets[count] = offset;
    lengths[count] = lengthBytes;
    count += 1;
  }
  const compare = (a: number, b: number): number =>
    (offsets[a] ?? 0) - (offsets[b] ?? 0) || (lengths[a] ?? 0) - (lengths[b] ?? 0);
  const order = new Uint32Array(count).map((_, index) => index).sort((a, b) => compare(a, b) || a - b);
  const isRepeated = new Uint8Array(count);
  order.forEach((index, place) => {
    if (place > 0 && compare(order[place - 1] ?? 0, index) === 0) isRepeated[index] = 1;
  });
  let index = 0;
  for (const table of tablesOf(file, snapshots)) {
    if (isRepeated[index] === 0) yield table;
    index += 1;
  }
}

function* tablesOf(file: Qcow2File, snapshots: Sequence<Snapshot>): Iterable<L1Table> {
  const { l1Size, l1TableOffset } = file.header;
  const current = { label: 'the current state', offset: l1TableOffset, lengthBytes: l1Size * 8 };
  if (activeL1TableProblem(file) === undefined) yield current;
  for (const { entry, index } of snapshots) {
    yield { label: `snapshot table entry ${index}`, offset: entry.l1TableOffset, lengthBytes: entry.l1Size * 8 };
  }
}

/** A table that cannot be read is a problem of its states, not of the image. */
function addEntryProblems(file: Qcow2File, table: L1Table, scannedBytes: number, problems: string[]): void {
  let badCount = 0;
  try {
    scanEntries(file, table, scannedBytes, (l2Offset, l1Index, fault) => {
      badCount += 1;
      if (badCount > MAX_LISTED_PER_TABLE) return;
      problems.push(`${table.label}: the L2 table at offset ${l2Offset} (L1 entry ${l1Index}) ${fault}`);
    });
  } catch (error) {
    if (!(error instanceof Qcow2fsError)) throw error;
    problems.push(`${table.label}: its L1 table cannot be read: ${messageOf(error)}`);
  }
  if (badCount > MAX_LISTED_PER_TABLE) {
    problems.push(`${table.label}: ${badCount - MAX_LISTED_PER_TABLE} more L2 tables cannot be read`);
  }
}

/** Calls `tell` with each entry whose L2 table cannot be there. */
function scanEntries(
  { storage, clusterBytes }: Qcow2File,
  table: L1Table,
  scannedBytes: number,
  tell: (l2Offset: number, l1Index: number, fault: string) => void,
): void {
  const chunk = Buffer.alloc(Math.min(CHUNK_BYTES, scannedBytes));
  for (let start = 0; start < scannedBytes; start += CHUNK_BYTES) {
    const wanted = Math.min(CHUNK_BYTES, scannedBytes - start);
    const count = storage.readUpTo(chunk, 0, wanted, table.offset + start);
    for (let at = 0; at + 8 <= count; at += 8) {
      const l2Offset = entryOffset(chunk.readUInt32BE(at), chunk.readUInt32BE(at + 4));
      const isAligned = l2Offset % clusterBytes === 0;
      if (isAligned && l2Offset < storage.sizeBytes) continue;
      tell(l2Offset, (start + at) / 8, isAligned ? 'lies past the end of the file' : 'is not cluster aligned');
    }
    if (count < wanted) return;
  }
}
