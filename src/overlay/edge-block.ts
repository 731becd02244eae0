/** A block at the edge of a written range, of which only a part is written: the rest of it comes from below. */

import type { Disk } from '../disk/disk.ts';
import { BASE, type BlockState, DATA } from './block-map.ts';
import { BLOCK_BYTES } from './delta-memory.ts';

/** What is written of the block is [`from`, `to`) of the disk. One object is used again for each write. */
export interface Edge {
  block: number;
  from: number;
  to: number;
  /** False if all of the block is written. The last block of a disk is partial if the disk ends within it. */
  isPartial: boolean;
  /** All of the block as it is to be in the file. */
  readonly bytes: Buffer;
}

/** An edge to be set. */
export function createEdge(): Edge {
  return { block: 0, from: 0, to: 0, isPartial: false, bytes: Buffer.alloc(BLOCK_BYTES) };
}

export function setEdge(edge: Edge, block: number, from: number, to: number): void {
  edge.block = block;
  edge.from = from;
  edge.to = to;
  edge.isPartial = to - from < BLOCK_BYTES;
}

/**
 * Puts together the bytes of a block that is not in the file yet: the written ones are in `source` at `sourceOffset`.
 * @throws Qcow2fsError what reading `base` throws.
 */
export function fillEdge(edge: Edge, state: BlockState, base: Disk, source: Buffer, sourceOffset: number): void {
  const { block, from, to, bytes } = edge;
  if (!edge.isPartial || state === DATA) return;
  const start = block * BLOCK_BYTES;
  bytes.fill(0);
  if (state === BASE) {
    const end = Math.min(start + BLOCK_BYTES, base.sizeBytes);
    if (from > start) base.readAt(bytes, 0, start, from - start);
    if (to < end) base.readAt(bytes, to - start, to, end - to);
  }
  source.copy(bytes, from - start, sourceOffset, sourceOffset + (to - from));
}
