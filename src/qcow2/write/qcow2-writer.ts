/**
 * Writes a qcow2 file of version 3 from its beginning to its end. Clusters of the guest come in ascending order, and each
 * L2 table lies behind the clusters that it maps, so that only one of them is in memory:
 *
 * | in the file                    |
 * |--------------------------------|
 * | header, extensions, backing file name (one cluster, written last) |
 * | clusters of the first L2 table, that table; the same for the next one, … |
 * | L1 table                       |
 * | refcount blocks                |
 * | refcount table                 |
 *
 * Each cluster of the file is used once, so that all refcounts are 1.
 */

import { writeU64BE } from '../../common/bytes.ts';
import { Qcow2fsError } from '../../errors.ts';
import type { NewFile } from '../../storage/new-file.ts';
import { MAX_BACKING_NAME_BYTES, MAX_CLUSTER_BITS, MAX_L1_TABLE_BYTES } from '../limits.ts';
import { encodeHeader, QCOW_CRYPT_NONE, QCOW2_V3_HEADER_BYTES } from '../wire/header.ts';
import { encodeHeaderExtensions, QCOW2_EXT_MAGIC_BACKING_FORMAT } from '../wire/header-extensions.ts';
import { clustersPerRefcountBlock, encodeOnes } from '../wire/refcount-entries.ts';
import { encodeCopiedEntry, encodeZeroEntry } from '../wire/table-entries.ts';

/** QEMU's default. */
const USUAL_CLUSTER_BITS = 16;
/** Entries of 16 bits, which `encodeOnes` makes. */
const REFCOUNT_ORDER = 4;
const ENTRY_BYTES = 8;

/** What shows through where the file has no cluster, as its header names it. */
export interface BackingFile {
  /** At most `MAX_BACKING_NAME_BYTES` as UTF-8. */
  readonly name: string;
  /** `qcow2` or `raw`. */
  readonly format: string;
}

export class Qcow2Writer {
  readonly clusterBytes: number;
  readonly #file: NewFile;
  readonly #sizeBytes: number;
  readonly #clusterBits: number;
  readonly #backing: BackingFile | undefined;
  readonly #l1: Buffer;
  readonly #l2: Buffer;
  #l2Index = 0;
  #isL2Used = false;
  /** Where the next cluster goes: the first one is the header's. */
  #endBytes: number;

  /**
   * `sizeBytes`: of the disk, a multiple of 512.
   * @throws Qcow2fsError UNSUPPORTED for a disk or a backing file name that is too long for the format.
   */
  constructor(file: NewFile, sizeBytes: number, backing: BackingFile | undefined) {
    if (backing !== undefined) requireFittingName(file.path, backing.name);
    this.#file = file;
    this.#sizeBytes = sizeBytes;
    this.#backing = backing;
    this.#clusterBits = clusterBitsFor(file.path, sizeBytes);
    this.clusterBytes = 2 ** this.#clusterBits;
    this.#l1 = Buffer.alloc(this.#roundUp(l1EntryCount(sizeBytes, this.#clusterBits) * ENTRY_BYTES));
    this.#l2 = Buffer.alloc(this.clusterBytes);
    this.#endBytes = this.clusterBytes;
  }

  /**
   * Stores whole clusters: `length` bytes of `source` from `sourceOffset` on, for the guest from `guestOffset` on.
   * @throws Qcow2fsError NO_SPACE, IO.
   */
  writeClusters(guestOffset: number, source: Buffer, sourceOffset: number, length: number): void {
    for (let done = 0; done < length; ) {
      const index = this.#enterTable(guestOffset + done);
      const piece = Math.min(length - done, (this.#l2EntryCount - index) * this.clusterBytes);
      for (let within = 0; within < piece; within += this.clusterBytes) {
        encodeCopiedEntry(this.#l2, index + within / this.clusterBytes, this.#endBytes + within);
      }
      this.#append(source, sourceOffset + done, piece);
      done += piece;
    }
  }

  /**
   * Lets the clusters of a range read as zeros, whatever the backing file has there.
   * @throws Qcow2fsError NO_SPACE, IO.
   */
  markZeros(guestOffset: number, length: number): void {
    for (let done = 0; done < length; done += this.clusterBytes) {
      encodeZeroEntry(this.#l2, this.#enterTable(guestOffset + done));
    }
  }

  /**
   * Writes the tables, and the header once all else is on the disk: a file that is not whole is no qcow2 file.
   * @throws Qcow2fsError NO_SPACE, IO.
   */
  finish(): void {
    this.#leaveTable();
    const l1TableOffset = this.#append(this.#l1, 0, this.#l1.length);
    const refcounts = this.#appendRefcounts();
    this.#file.sync();
    const head = this.#encodeHead({ l1TableOffset, ...refcounts });
    this.#file.writeAt(head, 0, head.length, 0);
    this.#file.sync();
  }

  get #l2EntryCount(): number {
    return this.clusterBytes / ENTRY_BYTES;
  }

  /** Goes on to the L2 table of a guest offset; returns the index of its entry there. */
  #enterTable(guestOffset: number): number {
    const cluster = guestOffset / this.clusterBytes;
    const l2Index = Math.floor(cluster / this.#l2EntryCount);
    if (l2Index !== this.#l2Index) {
      this.#leaveTable();
      this.#l2Index = l2Index;
    }
    this.#isL2Used = true;
    return cluster % this.#l2EntryCount;
  }

  #leaveTable(): void {
    if (!this.#isL2Used) return;
    encodeCopiedEntry(this.#l1, this.#l2Index, this.#append(this.#l2, 0, this.#l2.length));
    this.#l2.fill(0);
    this.#isL2Used = false;
  }

  /** Returns where it was written; `length` is one of whole clusters. */
  #append(source: Buffer, sourceOffset: number, length: number): number {
    const position = this.#endBytes;
    this.#file.writeAt(source, sourceOffset, length, position);
    this.#endBytes += length;
    return position;
  }

  /** Refcounts of all that is in the file, and of themselves. */
  #appendRefcounts(): { refcountTableOffset: number; refcountTableClusters: number } {
    const perBlock = clustersPerRefcountBlock(this.clusterBytes, REFCOUNT_ORDER);
    const otherCount = this.#endBytes / this.clusterBytes;
    let blockCount = 0;
    let tableBytes = 0;
    const clusterCount = () => otherCount + blockCount + tableBytes / this.clusterBytes;
    while (blockCount * perBlock < clusterCount()) {
      blockCount = Math.ceil(clusterCount() / perBlock);
      tableBytes = this.#roundUp(blockCount * ENTRY_BYTES);
    }
    const table = Buffer.alloc(tableBytes);
    const block = Buffer.alloc(this.clusterBytes);
    encodeOnes(block, perBlock);
    for (let index = 0, left = clusterCount(); index < blockCount; index++, left -= perBlock) {
      if (left < perBlock) encodeOnes(block, left);
      writeU64BE(table, this.#append(block, 0, block.length), index * ENTRY_BYTES);
    }
    const refcountTableOffset = this.#append(table, 0, tableBytes);
    return { refcountTableOffset, refcountTableClusters: tableBytes / this.clusterBytes };
  }

  #encodeHead(tables: { l1TableOffset: number; refcountTableOffset: number; refcountTableClusters: number }): Buffer {
    const name = Buffer.from(this.#backing?.name ?? '');
    const format = Buffer.from(this.#backing?.format ?? '');
    const extensions = encodeHeaderExtensions(
      format.length === 0 ? [] : [{ type: QCOW2_EXT_MAGIC_BACKING_FORMAT, data: format }],
    );
    const header = encodeHeader({
      ...tables,
      backingFileOffset: name.length === 0 ? 0 : QCOW2_V3_HEADER_BYTES + extensions.length,
      backingFileSize: name.length,
      clusterBits: this.#clusterBits,
      size: this.#sizeBytes,
      cryptMethod: QCOW_CRYPT_NONE,
      l1Size: l1EntryCount(this.#sizeBytes, this.#clusterBits),
      snapshotCount: 0,
      snapshotsOffset: 0,
      incompatibleFeatures: 0n,
      compatibleFeatures: 0n,
      autoclearFeatures: 0n,
      refcountOrder: REFCOUNT_ORDER,
    });
    const cluster = Buffer.alloc(this.clusterBytes);
    Buffer.concat([header, extensions, name]).copy(cluster);
    return cluster;
  }

  #roundUp(bytes: number): number {
    return Math.ceil(bytes / this.clusterBytes) * this.clusterBytes;
  }
}

/** At least one: a disk without bytes has a table too. */
function l1EntryCount(sizeBytes: number, clusterBits: number): number {
  return Math.max(1, Math.ceil(sizeBytes / 2 ** (2 * clusterBits - 3)));
}

/** The usual size of clusters, or a larger one if the L1 table of the disk would be longer than QEMU takes it. */
function clusterBitsFor(path: string, sizeBytes: number): number {
  for (let bits = USUAL_CLUSTER_BITS; bits <= MAX_CLUSTER_BITS; bits++) {
    if (l1EntryCount(sizeBytes, bits) * ENTRY_BYTES <= MAX_L1_TABLE_BYTES) return bits;
  }
  throw new Qcow2fsError('UNSUPPORTED', `${path}: a disk of ${sizeBytes} bytes is too large for qcow2`, {
    data: { file: path, sizeBytes },
  });
}

function requireFittingName(path: string, name: string): void {
  const length = Buffer.byteLength(name);
  if (length <= MAX_BACKING_NAME_BYTES) return;
  throw new Qcow2fsError(
    'UNSUPPORTED',
    `${path}: the name of its backing file has ${length} bytes, and qcow2 takes ${MAX_BACKING_NAME_BYTES} at most: ` +
      'move the image to a folder with a shorter path',
    { data: { file: path, backingFile: name } },
  );
}
