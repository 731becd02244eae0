/**
 * What all threads of the process share of a delta: its file, and what the view has of each block of the disk. Memory is
 * that of the touched part: the kernel backs a SharedArrayBuffer page by page, and whole pages of blocks that are alike have
 * no entries of their own.
 */

import { messageOf, Qcow2fsError } from '../errors.ts';

/** The unit in which the view leaves the disk below. */
export const BLOCK_BYTES = 4096;
/** What has two bits in the map for each block comes to 4 GiB of (sparse) memory for this. */
export const MAX_DISK_BYTES = 64 * 2 ** 40;

/** Blocks of a word of the map: two bits each. */
export const BLOCKS_PER_WORD = 16;
/** Words of a page of the map: 4 KiB, which stand for 64 MiB of the disk. */
export const WORDS_PER_PAGE = 1024;
export const BLOCKS_PER_PAGE = WORDS_PER_PAGE * BLOCKS_PER_WORD;
/** A segment of the map has 2 to the power of this words: 64 MiB, for 1 TiB of the disk. */
export const SEGMENT_WORD_BITS = 24;

/** Words of `control`. The locks hold `threadId + 1` of their holder, or 0. */
export const WRITE_LOCK = 0;
export const SYNC_LOCK = 1;
/** What is known of holes in the delta's file: see `space-return.ts`. */
export const HOLE_STATE = 2;
/** 1 once the operating system failed to keep what was written. */
export const SYNC_FAILED = 3;
const CONTROL_WORDS = 4;

/** Words of `counters`, of 64 bits. */
export const USED_BLOCKS = 0;
/** Milliseconds since 1970 of the last change, 0 before the first. */
export const WRITTEN_AT = 1;
const COUNTER_WORDS = 2;

/** Where the parts of a kept delta's file are: see `wire/delta-header.ts`. */
export interface KeptLayout {
  readonly kindsStart: number;
  readonly mapStart: number;
}

/** Plain data: can be sent to worker threads. */
export interface DeltaMemory {
  readonly fd: number;
  /** Names the delta in messages. */
  readonly name: string;
  /** Of the disk. */
  readonly sizeBytes: number;
  /** How many blocks the file may hold. */
  readonly maxBlocks: number;
  /** Block n is at `dataStart + n * BLOCK_BYTES` of the file. */
  readonly dataStart: number;
  /** undefined for a delta that is thrown away. */
  readonly kept: KeptLayout | undefined;
  readonly control: SharedArrayBuffer;
  readonly counters: SharedArrayBuffer;
  /** A byte for each page of the map: the state of all its blocks, or that they differ. */
  readonly kinds: SharedArrayBuffer;
  /** A byte for each page of the map: what of it is not in the file yet. */
  readonly dirty: SharedArrayBuffer;
  /** A byte for each page of the map, and for each block of kinds: 1 once its space in the file is sure. See `map-space.ts`. */
  readonly spaceOfPages: SharedArrayBuffer;
  readonly spaceOfKinds: SharedArrayBuffer;
  readonly segments: readonly SharedArrayBuffer[];
}

/** Pages of the map of a disk. */
export function pageCountOf(sizeBytes: number): number {
  return Math.ceil(Math.ceil(sizeBytes / BLOCK_BYTES) / BLOCKS_PER_PAGE);
}

/** @throws Qcow2fsError UNSUPPORTED for a disk that is too large. */
export function requireSupportedSize(sizeBytes: number): void {
  if (sizeBytes <= MAX_DISK_BYTES) return;
  throw new Qcow2fsError(
    'UNSUPPORTED',
    `a disk of ${sizeBytes} bytes cannot be shown as writable: ${MAX_DISK_BYTES} bytes (64 TiB) is the limit`,
    { data: { sizeBytes } },
  );
}

/**
 * The memory of a delta in which every block still is the one of the disk below.
 * @throws Qcow2fsError UNSUPPORTED if there are not enough addresses for it.
 */
export function createDeltaMemory(
  file: Pick<DeltaMemory, 'fd' | 'name' | 'sizeBytes' | 'dataStart' | 'kept'>,
  maxBytes: number,
): DeltaMemory {
  const pageCount = pageCountOf(file.sizeBytes);
  try {
    return {
      ...file,
      maxBlocks: Math.floor(maxBytes / BLOCK_BYTES),
      control: new SharedArrayBuffer(CONTROL_WORDS * 4),
      counters: new SharedArrayBuffer(COUNTER_WORDS * 8),
      kinds: new SharedArrayBuffer(pageCount),
      dirty: new SharedArrayBuffer(pageCount),
      spaceOfPages: new SharedArrayBuffer(pageCount),
      spaceOfKinds: new SharedArrayBuffer(Math.ceil(pageCount / BLOCK_BYTES)),
      segments: createSegments(pageCount * WORDS_PER_PAGE),
    };
  } catch (cause) {
    const message = `${file.name}: no memory for a map of ${file.sizeBytes} bytes: ${messageOf(cause)}; is there a ulimit -v?`;
    throw new Qcow2fsError('UNSUPPORTED', message, { data: { sizeBytes: file.sizeBytes }, cause });
  }
}

function createSegments(wordCount: number): SharedArrayBuffer[] {
  const segmentWords = 2 ** SEGMENT_WORD_BITS;
  const segments: SharedArrayBuffer[] = [];
  for (let at = 0; at < wordCount; at += segmentWords) {
    segments.push(new SharedArrayBuffer(Math.min(segmentWords, wordCount - at) * 4));
  }
  return segments;
}
