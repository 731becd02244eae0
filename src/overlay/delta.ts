/**
 * What was written over a disk that cannot be written: which blocks are no longer those of the disk below, and their bytes.
 *
 * Each thread has an object of its own over the same memory. Who writes holds a lock. Who reads takes none: a block is only
 * marked as being in the file when all of it is there, so that each look at the map is a true answer.
 */

import type { Disk } from '../disk/disk.ts';
import { Qcow2fsError } from '../errors.ts';
import { BlockMap, DATA, ZERO } from './block-map.ts';
import { readFile, writeFile } from './delta-file.ts';
import { BLOCK_BYTES, type DeltaMemory, SYNC_LOCK, USED_BLOCKS, WRITE_LOCK, WRITTEN_AT } from './delta-memory.ts';
import { createEdge, type Edge, fillEdge, setEdge } from './edge-block.ts';
import { MapSpace } from './map-space.ts';
import { SharedLock } from './shared-lock.ts';
import { SpaceReturn } from './space-return.ts';
import { markAllDirty, requireNoLoss, syncKeptDelta } from './sync-delta.ts';

const ZEROS = Buffer.alloc(BLOCK_BYTES);

export class Delta {
  readonly blocks: BlockMap;
  readonly #memory: DeltaMemory;
  readonly #control: Int32Array;
  readonly #counters: BigInt64Array;
  readonly #writeLock: SharedLock;
  readonly #syncLock: SharedLock;
  readonly #space: SpaceReturn;
  readonly #mapSpace: MapSpace | undefined;
  readonly #blockCount: number;
  readonly #head = createEdge();
  readonly #tail = createEdge();

  /** @param space for tests: how space is given back */
  constructor(memory: DeltaMemory, space?: SpaceReturn) {
    const control = new Int32Array(memory.control);
    this.blocks = new BlockMap(memory);
    this.#memory = memory;
    this.#control = control;
    this.#counters = new BigInt64Array(memory.counters);
    this.#writeLock = new SharedLock(control, WRITE_LOCK, memory.name);
    this.#syncLock = new SharedLock(control, SYNC_LOCK, memory.name);
    this.#space = space ?? new SpaceReturn(memory, control);
    this.#mapSpace = memory.kept && new MapSpace(memory, memory.kept, this.blocks);
    this.#blockCount = Math.ceil(memory.sizeBytes / BLOCK_BYTES);
  }

  /** Of the disk. */
  get sizeBytes(): number {
    return this.#memory.sizeBytes;
  }

  /** What the blocks in the file take. */
  get usedBytes(): number {
    return this.#usedBlocks() * BLOCK_BYTES;
  }

  /** Milliseconds since 1970 of the last change, 0 if there was none. */
  get writtenAtMs(): number {
    return Number(Atomics.load(this.#counters, WRITTEN_AT));
  }

  /** Reads bytes of blocks that are DATA, by their offset in the disk. @throws Qcow2fsError IO. */
  read(target: Buffer, targetOffset: number, offset: number, length: number): void {
    readFile(this.#memory, target, targetOffset, length, this.#memory.dataStart + offset);
    // Afterwards: what was lost before is told then.
    requireNoLoss(this.#memory, this.#control);
  }

  /**
   * Writes a range of the disk; `base` has the rest of blocks of which only a part is written.
   * @throws Qcow2fsError NO_SPACE, IO, or what `base` throws; the view is as before then.
   */
  write(base: Disk, source: Buffer, sourceOffset: number, offset: number, length: number): void {
    if (length > 0) this.#writeLock.hold(() => this.#write(base, source, sourceOffset, offset, offset + length));
  }

  /** Makes a range of the disk read as zeros. @throws as `write`, for blocks of which only a part is in the range. */
  discard(base: Disk, offset: number, length: number): void {
    if (length > 0) this.#writeLock.hold(() => this.#discard(base, offset, offset + length));
  }

  /**
   * Returns when all that was written before is in the file of a kept delta. One that is thrown away has nothing to keep:
   * what was written is in memory or in the file, from which all reads come, and a crash of the machine takes it all.
   * @throws Qcow2fsError IO.
   */
  sync(): void {
    const { kept } = this.#memory;
    if (kept !== undefined) {
      this.#syncLock.hold(() => syncKeptDelta(this.#memory, kept, this.blocks, (body) => this.#writeLock.hold(body)));
    }
  }

  /**
   * To be called when a thread has ended: if it held a lock, others wait for it. What it was writing is there or not, for
   * each block.
   */
  releaseLockOf(threadId: number): void {
    this.#syncLock.releaseOf(threadId, () => markAllDirty(this.blocks));
    this.#writeLock.releaseOf(threadId, () => this.#setUsedBlocks(this.blocks.countData(0, this.#blockCount)));
  }

  #write(base: Disk, source: Buffer, sourceOffset: number, offset: number, end: number): void {
    requireNoLoss(this.#memory, this.#control);
    const from = Math.floor(offset / BLOCK_BYTES);
    const to = Math.ceil(end / BLOCK_BYTES);
    const { blocks } = this;
    setEdge(this.#head, from, offset, Math.min(end, (from + 1) * BLOCK_BYTES));
    setEdge(this.#tail, to - 1, Math.max(offset, (to - 1) * BLOCK_BYTES), end);
    fillEdge(this.#head, blocks.stateAt(from), base, source, sourceOffset);
    if (to - from > 1) {
      fillEdge(this.#tail, blocks.stateAt(to - 1), base, source, sourceOffset + (this.#tail.from - offset));
    }
    const addedBlocks = to - from - blocks.countData(from, to);
    this.#requireRoom(addedBlocks);
    this.#mapSpace?.reserve(from, to, DATA);
    try {
      // First what may need space: nobody reads it before it is marked, so that nothing is changed if there is none.
      this.#forEachRun(from, to, (run, runEnd, isData) => {
        if (!isData) this.#writeNewBlocks(run, runEnd, source, sourceOffset - offset);
      });
      this.#forEachRun(from, to, (run, runEnd, isData) => {
        if (isData) this.#overwrite(run, runEnd, source, sourceOffset, offset, end);
      });
    } catch (error) {
      this.#giveBackUnused(from, to);
      throw error;
    }
    blocks.setRange(from, to, DATA);
    this.#setUsedBlocks(this.#usedBlocks() + addedBlocks);
    this.#touch();
  }

  /** Writes blocks that were not in the file. Those at the edges of the range have been filled up. */
  #writeNewBlocks(run: number, runEnd: number, source: Buffer, sourceStart: number): void {
    let [from, to] = [run, runEnd];
    if (from === this.#head.block && this.#head.isPartial) this.#writeEdge(this.#head, from++);
    if (from < to && to - 1 === this.#tail.block && this.#tail.isPartial) this.#writeEdge(this.#tail, --to);
    if (from >= to) return;
    const offset = from * BLOCK_BYTES;
    const position = this.#memory.dataStart + offset;
    writeFile(this.#memory, source, sourceStart + offset, (to - from) * BLOCK_BYTES, position);
  }

  /** Writes what is in [`offset`, `end`) of blocks that are in the file. */
  #overwrite(run: number, runEnd: number, source: Buffer, sourceOffset: number, offset: number, end: number): void {
    const start = Math.max(offset, run * BLOCK_BYTES);
    const length = Math.min(end, runEnd * BLOCK_BYTES) - start;
    writeFile(this.#memory, source, sourceOffset + (start - offset), length, this.#memory.dataStart + start);
  }

  #writeEdge(edge: Edge, block: number): void {
    writeFile(this.#memory, edge.bytes, 0, BLOCK_BYTES, this.#memory.dataStart + block * BLOCK_BYTES);
  }

  #discard(base: Disk, offset: number, end: number): void {
    requireNoLoss(this.#memory, this.#control);
    const isToTheEnd = end === this.#memory.sizeBytes;
    const from = Math.ceil(offset / BLOCK_BYTES);
    const to = isToTheEnd ? this.#blockCount : Math.floor(end / BLOCK_BYTES);
    const headEnd = Math.min(end, from * BLOCK_BYTES);
    const tailStart = Math.max(headEnd, to * BLOCK_BYTES);
    if (from < to) this.#mapSpace?.reserve(from, to, ZERO);
    this.#clearParts(base, offset, headEnd, tailStart, end);
    if (from < to) this.#discardBlocks(from, to);
    this.#touch();
  }

  /** Writes zeros to the parts of blocks at both ends of a range, either of which may be empty. */
  #clearParts(base: Disk, headStart: number, headEnd: number, tailStart: number, tailEnd: number): void {
    const { blocks } = this;
    setEdge(this.#head, Math.floor(headStart / BLOCK_BYTES), headStart, headEnd);
    setEdge(this.#tail, Math.floor(tailStart / BLOCK_BYTES), tailStart, tailEnd);
    const edges = [this.#head, this.#tail].filter(({ from, to, block }) => from < to && blocks.stateAt(block) !== ZERO);
    const added = edges.filter(({ block }) => blocks.stateAt(block) !== DATA);
    for (const edge of added) fillEdge(edge, blocks.stateAt(edge.block), base, ZEROS, 0);
    this.#requireRoom(added.length);
    for (const { block } of added) this.#mapSpace?.reserve(block, block + 1, DATA);
    for (const edge of added) this.#writeEdge(edge, edge.block);
    for (const { from, to } of edges.filter((edge) => !added.includes(edge))) {
      writeFile(this.#memory, ZEROS, 0, to - from, this.#memory.dataStart + from);
    }
    for (const { block } of added) blocks.setRange(block, block + 1, DATA);
    this.#setUsedBlocks(this.#usedBlocks() + added.length);
  }

  /** The bytes of the blocks in the file mean nothing afterwards, whether or not there is a hole. */
  #discardBlocks(from: number, to: number): void {
    let [first, last, count] = [-1, -1, 0];
    this.#forEachRun(from, to, (run, runEnd, isData) => {
      if (!isData) return;
      if (first < 0) first = run;
      last = runEnd;
      count += runEnd - run;
    });
    this.blocks.setRange(from, to, ZERO);
    if (count === 0) return;
    this.#setUsedBlocks(this.#usedBlocks() - count);
    this.#space.giveBack(this.#memory.dataStart + first * BLOCK_BYTES, (last - first) * BLOCK_BYTES);
  }

  /** After a write that failed: what of it is in the file is in the way of others. */
  #giveBackUnused(from: number, to: number): void {
    this.#forEachRun(from, to, (run, runEnd, isData) => {
      if (isData) return;
      this.#space.giveBack(this.#memory.dataStart + run * BLOCK_BYTES, (runEnd - run) * BLOCK_BYTES);
    });
  }

  #forEachRun(from: number, to: number, use: (run: number, runEnd: number, isData: boolean) => void): void {
    for (let at = from; at < to; ) {
      const state = this.blocks.stateAt(at);
      const end = this.blocks.runEnd(at, to, state);
      use(at, end, state === DATA);
      at = end;
    }
  }

  #requireRoom(addedBlocks: number): void {
    const { maxBlocks, name } = this.#memory;
    if (addedBlocks === 0 || this.#usedBlocks() + addedBlocks <= maxBlocks) return;
    const maxBytes = maxBlocks * BLOCK_BYTES;
    throw new Qcow2fsError(
      'NO_SPACE',
      `${name} is full: it may take ${maxBytes} bytes; allow more with --max-delta, if the folder has the free space`,
      { data: { maxBytes } },
    );
  }

  #usedBlocks(): number {
    return Number(Atomics.load(this.#counters, USED_BLOCKS));
  }

  #setUsedBlocks(count: number): void {
    Atomics.store(this.#counters, USED_BLOCKS, BigInt(count));
  }

  #touch(): void {
    Atomics.store(this.#counters, WRITTEN_AT, BigInt(Date.now()));
  }
}
