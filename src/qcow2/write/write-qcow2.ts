/** Writes a disk as a qcow2 file: all of it, or what differs from a backing file. */

import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Disk } from '../../disk/disk.ts';
import { Qcow2fsError } from '../../errors.ts';
import type { NewFile } from '../../storage/new-file.ts';
import { type ClusterRun, ClusterRuns } from './cluster-runs.ts';
import { type BackingFile, Qcow2Writer } from './qcow2-writer.ts';

/** Clusters are read and written together up to this size. */
const PIECE_BYTES = 1024 * 1024;
/** For so long at most, signals wait. */
const TURN_MS = 20;

export interface WriteOptions {
  /** Given: only what differs from the disk of this file is written. */
  readonly backing?: BackingFile & {
    /** A state of the image that the view is of: where their extents are at the same place, they hold the same. */
    readonly disk: Disk;
  };
  /** Called many times in a second; what it throws ends the writing. `fraction`: 0 to 1. */
  readonly onProgress?: (fraction: number) => void;
  /** Once it is aborted, its reason is thrown. */
  readonly signal?: AbortSignal;
}

/**
 * Writes `view` to `file`, which is new. Zeros and holes of the disk take no room, nor does what shows through from the backing file.
 * The memory that is needed depends on the size of the disk by an L1 table only: 16 KiB for each TiB.
 * @throws Qcow2fsError what reading the view throws; NO_SPACE or IO of the file; UNSUPPORTED as `Qcow2Writer`.
 */
export async function writeQcow2(file: NewFile, view: Disk, options: WriteOptions = {}): Promise<void> {
  const writer = new Qcow2Writer(file, view.sizeBytes, options.backing);
  const copy = new DiskCopy(writer, view, options.backing?.disk);
  let turnEndsAtMs = 0;
  for (let offset = 0; offset < view.sizeBytes; offset = copy.copyFrom(offset)) {
    if (performance.now() < turnEndsAtMs) continue;
    await nextTurn();
    options.signal?.throwIfAborted();
    options.onProgress?.(offset / view.sizeBytes);
    turnEndsAtMs = performance.now() + TURN_MS;
  }
  writer.finish();
  await nextTurn();
  options.signal?.throwIfAborted();
}

class DiskCopy {
  readonly #writer: Qcow2Writer;
  readonly #view: Disk;
  readonly #below: Disk | undefined;
  readonly #runs: ClusterRuns;
  readonly #run: ClusterRun = { task: 'nothing', lengthBytes: 0 };
  readonly #bytes: Buffer;
  readonly #bytesBelow: Buffer;
  readonly #zeros: Buffer;

  constructor(writer: Qcow2Writer, view: Disk, below: Disk | undefined) {
    const pieceBytes = Math.max(PIECE_BYTES, writer.clusterBytes);
    this.#writer = writer;
    this.#view = view;
    this.#below = below;
    this.#runs = new ClusterRuns(view, below, writer.clusterBytes, pieceBytes);
    this.#bytes = Buffer.alloc(pieceBytes);
    this.#bytesBelow = Buffer.alloc(below === undefined ? 0 : pieceBytes);
    this.#zeros = Buffer.alloc(writer.clusterBytes);
  }

  /** Does what is to be done for the run at `offset`; returns where it ends. */
  copyFrom(offset: number): number {
    const run = this.#run;
    this.#runs.next(offset, run);
    if (run.task === 'zeros') this.#writer.markZeros(offset, run.lengthBytes);
    if (run.task === 'data') this.#copyData(offset, run.lengthBytes);
    if (run.task === 'compare') this.#copyDifferences(offset, run.lengthBytes);
    return offset + run.lengthBytes;
  }

  #copyData(offset: number, lengthBytes: number): void {
    const length = this.#readView(offset, lengthBytes);
    this.#store(offset, length, (at) => !this.#isZeros(at));
  }

  #copyDifferences(offset: number, lengthBytes: number): void {
    const length = this.#readView(offset, lengthBytes);
    const isKnown = this.#readBelow(offset, lengthBytes, length);
    this.#store(offset, length, (at) => !isKnown || !this.#isSame(at));
  }

  /** Stores those clusters of the piece at `offset` that differ from what is below, neighbours together. */
  #store(offset: number, length: number, differs: (at: number) => boolean): void {
    const writer = this.#writer;
    const { clusterBytes } = writer;
    let start = 0;
    for (let at = 0; at <= length; at += clusterBytes) {
      const isDifferent = at < length && differs(at);
      const isZeros = isDifferent && this.#isZeros(at);
      if (isDifferent && !isZeros) continue;
      if (at > start) writer.writeClusters(offset + start, this.#bytes, start, at - start);
      if (isZeros) writer.markZeros(offset + at, clusterBytes);
      start = at + clusterBytes;
    }
  }

  /** Reads a piece, and zeros up to the end of its last cluster; returns how many bytes that makes. */
  #readView(offset: number, lengthBytes: number): number {
    const { clusterBytes } = this.#writer;
    const length = Math.ceil(lengthBytes / clusterBytes) * clusterBytes;
    this.#view.readAt(this.#bytes, 0, offset, lengthBytes);
    this.#bytes.fill(0, lengthBytes, length);
    return length;
  }

  /** The same of what is below, zeros behind its end. False if it cannot be told: then nothing of it may show through. */
  #readBelow(offset: number, lengthBytes: number, length: number): boolean {
    const below = this.#below;
    const stored = below === undefined ? 0 : Math.max(0, Math.min(lengthBytes, below.sizeBytes - offset));
    this.#bytesBelow.fill(0, stored, length);
    try {
      below?.readAt(this.#bytesBelow, 0, offset, stored);
      return true;
    } catch (error) {
      if (error instanceof Qcow2fsError && (error.code === 'DAMAGED' || error.code === 'PAST_END')) return false;
      throw error;
    }
  }

  #isZeros(at: number): boolean {
    return this.#bytes.compare(this.#zeros, 0, undefined, at, at + this.#writer.clusterBytes) === 0;
  }

  #isSame(at: number): boolean {
    const end = at + this.#writer.clusterBytes;
    return this.#bytes.compare(this.#bytesBelow, at, end, at, end) === 0;
  }
}
