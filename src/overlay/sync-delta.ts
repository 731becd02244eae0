/**
 * Brings a kept delta's map to its file, so that what is on the disk is a true state of the delta at any moment: first the
 * bytes of the blocks, then the words that point to them, then the kinds that point to the words, each when the one before
 * is safely on the disk. A block's two bits are in one byte, so that each block is either as it was or as it is.
 */

import { Qcow2fsError } from '../errors.ts';
import { BASE, type BlockMap, DIRTY_KIND, DIRTY_WORDS, MIXED } from './block-map.ts';
import { syncFile, writeFile } from './delta-file.ts';
import { type DeltaMemory, type KeptLayout, SYNC_FAILED } from './delta-memory.ts';
import { encodeMapPage, MAP_PAGE_BYTES } from './wire/delta-header.ts';

/** A page of the map at one moment. */
interface DirtyPage {
  readonly page: number;
  /** Which of it is not in the file. */
  readonly what: number;
  readonly kind: number;
  /** As they are to be in the file; undefined if they need not be written. */
  readonly words: Buffer | undefined;
}

/**
 * Returns when all that was written before is on the disk. For the holder of the sync lock.
 * @param holdWriteLock runs something while nobody writes
 * @throws Qcow2fsError IO, NO_SPACE; the next call tries again, but for bytes that the operating system has given up.
 */
export function syncKeptDelta(
  memory: DeltaMemory,
  layout: KeptLayout,
  blocks: BlockMap,
  holdWriteLock: <Result>(body: () => Result) => Result,
): void {
  requireNoLoss(memory, new Int32Array(memory.control));
  const pages = holdWriteLock(() => takeDirtyPages(blocks));
  try {
    // Also without a dirty page: blocks that were in the file before may have been written to.
    syncOrLose(memory);
    if (writeWords(memory, layout, pages)) syncOrLose(memory);
    if (writeKinds(memory, layout, pages)) syncOrLose(memory);
  } catch (cause) {
    for (const { page, what } of pages) blocks.addDirty(page, what);
    throw cause;
  }
}

/** Makes the next sync write the whole map: when it is not known what the last one has written. */
export function markAllDirty(blocks: BlockMap): void {
  for (let page = 0; page < blocks.pageCount; page++) {
    if (blocks.kindOf(page) !== BASE) blocks.addDirty(page, DIRTY_WORDS | DIRTY_KIND);
  }
}

function takeDirtyPages(blocks: BlockMap): DirtyPage[] {
  const pages: DirtyPage[] = [];
  for (let page = 0; page < blocks.pageCount; page++) {
    const what = blocks.takeDirty(page);
    if (what === 0) continue;
    const kind = blocks.kindOf(page);
    const hasWords = kind === MIXED && (what & DIRTY_WORDS) !== 0;
    pages.push({ page, what, kind, words: hasWords ? encodeMapPage(blocks.wordsOf(page)) : undefined });
  }
  return pages;
}

function writeWords(memory: DeltaMemory, layout: KeptLayout, pages: readonly DirtyPage[]): boolean {
  let isWritten = false;
  for (const { page, words } of pages) {
    if (words === undefined) continue;
    writeFile(memory, words, 0, MAP_PAGE_BYTES, layout.mapStart + page * MAP_PAGE_BYTES);
    isWritten = true;
  }
  return isWritten;
}

/** Neighbours are written at once: a discard may change the kinds of a whole disk. */
function writeKinds(memory: DeltaMemory, layout: KeptLayout, pages: readonly DirtyPage[]): boolean {
  const changed = pages.filter(({ what }) => (what & DIRTY_KIND) !== 0);
  for (let index = 0; index < changed.length; ) {
    const start = changed[index]?.page ?? 0;
    const kinds: number[] = [];
    for (; changed[index]?.page === start + kinds.length; index++) kinds.push(changed[index]?.kind ?? BASE);
    writeFile(memory, Buffer.from(kinds), 0, kinds.length, layout.kindsStart + start);
  }
  return changed.length > 0;
}

/**
 * Linux tells of bytes that it could not write only once, and takes them for written from then on (fsync(2), "EIO"): no
 * later sync can promise anything.
 */
function syncOrLose(memory: DeltaMemory): void {
  try {
    syncFile(memory);
  } catch (error) {
    Atomics.store(new Int32Array(memory.control), SYNC_FAILED, 1);
    throw error;
  }
}

/**
 * For all that uses the file: what the operating system has given up reads as something else once it is out of memory.
 * @throws Qcow2fsError IO.
 */
export function requireNoLoss({ name }: Pick<DeltaMemory, 'name'>, control: Int32Array): void {
  if (Atomics.load(control, SYNC_FAILED) === 0) return;
  throw new Qcow2fsError(
    'IO',
    `${name} cannot be used any more: its disk has failed, and may have lost what was written`,
  );
}
