/** The snapshot table of an image. */

import type { Sequence } from '../common/sequence.ts';
import { messageOf, Qcow2fsError } from '../errors.ts';
import { ReadAheadStorage } from '../storage/read-ahead-storage.ts';
import { readExactly, type Storage } from '../storage/storage.ts';
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
  decodeSnapshotEntrySizes,
  SNAPSHOT_ENTRY_FIXED_BYTES,
  type SnapshotEntry,
} from './wire/snapshot-entry.ts';

/** Bounds what is told of one table, as each of its 65,536 entries may be damaged. */
const MAX_TOLD_PROBLEMS = 100;
/** The id and the name have lengths of 16 bits. */
const MAX_ENTRY_BYTES = SNAPSHOT_ENTRY_FIXED_BYTES + MAX_SNAPSHOT_EXTRA_DATA_BYTES + 2 * 0xffff;

export interface Snapshot {
  readonly entry: SnapshotEntry;
  /** Position in the table, from 0. */
  readonly index: number;
  /** The snapshot's own virtual size; entries without one have the current size, as in QEMU. */
  readonly sizeBytes: number;
}

/** Plain data: can be sent to worker threads, which share the memory. `Snapshots` shows what is in it. */
export interface SnapshotMemory {
  /** Entries that can be shown. */
  readonly count: number;
  /** The bytes of these entries as in the file, without the padding. The kernel backs it only as far as it is used. */
  readonly bytes: SharedArrayBuffer;
  /** For each entry: its offset in the file, its offset in `bytes`, its length, and its position in the table. */
  readonly places: SharedArrayBuffer;
  /** The size of snapshots that have none of their own. */
  readonly currentSizeBytes: number;
}

export interface SnapshotTable {
  readonly memory: SnapshotMemory;
  /** What is wrong with the table, one line each; the snapshots in `memory` are those that can be told. */
  readonly problems: readonly string[];
}

const FILE_OFFSET = 0;
const BYTES_OFFSET = 1;
const LENGTH = 2;
const TABLE_INDEX = 3;
const PLACE_NUMBERS = 4;

/** The snapshots in a memory, in the order of the table, each decoded when it is asked for. */
export class Snapshots implements Sequence<Snapshot> {
  readonly length: number;
  readonly #bytes: Buffer;
  readonly #places: Float64Array;
  readonly #currentSizeBytes: number;

  constructor({ count, bytes, places, currentSizeBytes }: SnapshotMemory) {
    this.length = count;
    this.#bytes = Buffer.from(bytes);
    this.#places = new Float64Array(places);
    this.#currentSizeBytes = currentSizeBytes;
  }

  /** The snapshot with this place among those that are shown, from 0; undefined for any other number. */
  at(index: number): Snapshot | undefined {
    return this.#has(index) ? this.#decode(index) : undefined;
  }

  *[Symbol.iterator](): Iterator<Snapshot> {
    for (let index = 0; index < this.length; index++) yield this.#decode(index);
  }

  /**
   * The bytes of the entry in the file, without its padding: a view of the memory.
   * @throws Qcow2fsError NOT_FOUND.
   */
  rawEntry(index: number): Buffer {
    this.#require(index);
    const start = this.#place(index, BYTES_OFFSET);
    return this.#bytes.subarray(start, start + this.#place(index, LENGTH));
  }

  /**
   * Where the entry lies in the file.
   * @throws Qcow2fsError NOT_FOUND.
   */
  fileOffset(index: number): number {
    this.#require(index);
    return this.#place(index, FILE_OFFSET);
  }

  /**
   * The length of its id and its name together.
   * @throws Qcow2fsError NOT_FOUND.
   */
  namesBytes(index: number): number {
    const { idBytes, nameBytes } = decodeSnapshotEntryLengths(this.rawEntry(index));
    return idBytes + nameBytes;
  }

  #has(index: number): boolean {
    return Number.isInteger(index) && index >= 0 && index < this.length;
  }

  #require(index: number): void {
    if (!this.#has(index)) throw new Qcow2fsError('NOT_FOUND', `there is no snapshot ${index}`, { data: { index } });
  }

  #place(index: number, which: number): number {
    return this.#places[index * PLACE_NUMBERS + which] ?? 0;
  }

  #decode(index: number): Snapshot {
    const entry = decodeSnapshotEntry(this.rawEntry(index));
    return {
      entry,
      index: this.#place(index, TABLE_INDEX),
      sizeBytes: wholeSectors(entry.diskSizeBytes ?? this.#currentSizeBytes),
    };
  }
}

/**
 * Reads the snapshot table. Damage never throws: it is told in `problems`. QEMU refuses the whole image for one
 * bad entry; here it costs that entry, and the ones behind it only if their place can no longer be told. A count that is
 * too high costs nothing: the table ends where its entries do.
 * @throws Qcow2fsError IO.
 */
export function readSnapshotTable(file: Qcow2File): SnapshotTable {
  const { snapshotCount, snapshotsOffset } = file.header;
  const count = Math.min(snapshotCount, MAX_SNAPSHOT_COUNT);
  const table = new TableWriter(count, file.header.size);
  const problems: string[] = [];
  if (count === 0) return { memory: table.memory(), problems };
  // Their clusters would share the data file with those of the current state; QEMU refuses to make or list them.
  if (file.hasDataFile) {
    problems.push(`header field nb_snapshots is ${snapshotCount}, but an image with an external data file has none`);
    return { memory: table.memory(), problems };
  }
  if (snapshotCount > MAX_SNAPSHOT_COUNT) {
    problems.push(`header field nb_snapshots is ${snapshotCount}, but at most ${MAX_SNAPSHOT_COUNT} are allowed`);
  }
  if (snapshotsOffset % file.clusterBytes !== 0) {
    problems.push(`header field snapshots_offset is ${snapshotsOffset}, which is not cluster aligned`);
    return { memory: table.memory(), problems };
  }
  const storage = new ReadAheadStorage(file.storage);
  let offset = snapshotsOffset;
  let namesBytes = 0;
  for (let index = 0; index < count; index++) {
    const start = offset;
    const label = `snapshot table entry ${index} at offset ${start}`;
    try {
      const bytes = readEntryBytes(storage, start, label, table.rest);
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
      const problem = entryProblem(file, bytes);
      if (problem === undefined) table.keep(bytes.length, start, index);
      else problems.push(`${label}: ${problem}; it is not shown`);
    } catch (error) {
      if (!(error instanceof Qcow2fsError) || error.code === 'IO') throw error;
      problems.push(`${label}: ${messageOf(error)}; it and the entries behind it are not shown`);
      break;
    }
  }
  return { memory: table.memory(), problems: shorten(problems) };
}

function shorten(problems: readonly string[]): readonly string[] {
  const rest = problems.length - MAX_TOLD_PROBLEMS;
  return rest <= 0 ? problems : [...problems.slice(0, MAX_TOLD_PROBLEMS), `and ${rest} more problems of snapshots`];
}

/**
 * What a snapshot is known by, whatever place its entry has: all that QEMU sets when it makes one. The bytes of an entry
 * would not do: QEMU adds fields to old ones when it writes the table anew.
 */
export function snapshotIdentity({ entry, sizeBytes }: Snapshot): string {
  const { id, name, l1TableOffset, l1Size, dateSeconds, dateNanoseconds, vmClockNanoseconds, vmStateBytes } = entry;
  const clock = String(vmClockNanoseconds);
  return JSON.stringify([
    id,
    name,
    l1TableOffset,
    l1Size,
    dateSeconds,
    dateNanoseconds,
    clock,
    vmStateBytes,
    sizeBytes,
  ]);
}

/** True if both hold the same entries, byte for byte, at the same places of the file. */
export function isSameTable(memory: SnapshotMemory, other: SnapshotMemory): boolean {
  if (memory.count !== other.count) return false;
  const [snapshots, others] = [new Snapshots(memory), new Snapshots(other)];
  for (let index = 0; index < memory.count; index++) {
    if (snapshots.fileOffset(index) !== others.fileOffset(index)) return false;
    if (!snapshots.rawEntry(index).equals(others.rawEntry(index))) return false;
  }
  return true;
}

/** Why the L1 table of a snapshot cannot be used, or undefined. Rules: QEMU's qcow2_validate_table. */
export function l1TableProblem(file: Qcow2Metadata, l1Size: number, l1TableOffset: number): string | undefined {
  if (l1Size * 8 > MAX_L1_TABLE_BYTES) return `its L1 table has ${l1Size} entries, more than 32 MiB hold`;
  if (l1TableOffset % file.clusterBytes !== 0) return `its L1 table offset ${l1TableOffset} is not cluster aligned`;
  return undefined;
}

/** Why the snapshot of an entry cannot be shown, or undefined. */
function entryProblem(file: Qcow2File, bytes: Buffer): string | undefined {
  try {
    const { l1Size, l1TableOffset } = decodeSnapshotEntrySizes(bytes);
    return l1TableProblem(file, l1Size, l1TableOffset);
  } catch (error) {
    return messageOf(error);
  }
}

function wholeSectors(sizeBytes: number): number {
  return sizeBytes - (sizeBytes % SECTOR_BYTES);
}

/** Fills a memory with entries, one behind the other. */
class TableWriter {
  readonly #memory: SnapshotMemory;
  readonly #places: Float64Array;
  #count = 0;
  #usedBytes = 0;

  /** Has room for `maxCount` entries. */
  constructor(maxCount: number, currentSizeBytes: number) {
    const maxTableBytes = MAX_SNAPSHOT_TABLE_BYTES + MAX_ENTRY_BYTES;
    const bytes = new SharedArrayBuffer(Math.min(maxTableBytes, maxCount * MAX_ENTRY_BYTES));
    const places = new SharedArrayBuffer(maxCount * PLACE_NUMBERS * Float64Array.BYTES_PER_ELEMENT);
    this.#memory = { count: 0, bytes, places, currentSizeBytes };
    this.#places = new Float64Array(places);
  }

  /** Where the next entry is read to. */
  get rest(): Buffer {
    return Buffer.from(this.#memory.bytes, this.#usedBytes);
  }

  /** Keeps the entry at the start of `rest`. */
  keep(lengthBytes: number, fileOffset: number, tableIndex: number): void {
    const place = this.#count * PLACE_NUMBERS;
    this.#places[place + FILE_OFFSET] = fileOffset;
    this.#places[place + BYTES_OFFSET] = this.#usedBytes;
    this.#places[place + LENGTH] = lengthBytes;
    this.#places[place + TABLE_INDEX] = tableIndex;
    this.#count += 1;
    this.#usedBytes += lengthBytes;
  }

  memory(): SnapshotMemory {
    return { ...this.#memory, count: this.#count };
  }
}

/** Reads one entry to the start of `target`; returns its bytes there, without its padding. */
function readEntryBytes(storage: Storage, offset: number, label: string, target: Buffer): Buffer {
  const fixed = target.subarray(0, SNAPSHOT_ENTRY_FIXED_BYTES);
  readExactly(storage, fixed, 0, fixed.length, offset, label);
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
  const bytes = target.subarray(0, SNAPSHOT_ENTRY_FIXED_BYTES + extraDataBytes + idBytes + nameBytes);
  readExactly(storage, bytes, 0, bytes.length, offset, label);
  return bytes;
}
