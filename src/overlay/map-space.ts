/**
 * Space for the map of a kept delta. The map is a hole of the file at first, and is written long after the blocks that it
 * points to: a file system that these have filled would have none left for it, and what was written could not be kept. So each
 * part of the map gets its space before anything is marked in it, and is written in place later. The file says the same
 * afterwards: a page whose blocks are alike means nothing in the map, and its kind is written as it is.
 *
 * A file system that writes everything to a new place (Btrfs) does not reserve space so: there fsync(2) may still say ENOSPC.
 */

import { type BlockMap, ZERO } from './block-map.ts';
import { writeFile } from './delta-file.ts';
import { BLOCK_BYTES, BLOCKS_PER_PAGE, type DeltaMemory, type KeptLayout } from './delta-memory.ts';
import { MAP_PAGE_BYTES } from './wire/delta-header.ts';

const NO_WORDS = Buffer.alloc(MAP_PAGE_BYTES);
/** Pages whose kinds are in one block of the file. */
const PAGES_PER_KIND_BLOCK = BLOCK_BYTES;

/** For the holder of the write lock. */
export class MapSpace {
  readonly #memory: DeltaMemory;
  readonly #layout: KeptLayout;
  readonly #blocks: BlockMap;
  /** 1 for each page that has space in the map. */
  readonly #pages: Uint8Array;
  /** 1 for each block of kinds that is in the file. */
  readonly #kindBlocks: Uint8Array;

  constructor(memory: DeltaMemory, layout: KeptLayout, blocks: BlockMap) {
    this.#memory = memory;
    this.#layout = layout;
    this.#blocks = blocks;
    this.#pages = new Uint8Array(memory.spaceOfPages);
    this.#kindBlocks = new Uint8Array(memory.spaceOfKinds);
  }

  /** To be called for each page that is MIXED in the file of a delta that was there already. */
  noteLoaded(page: number): void {
    this.#pages[page] = 1;
  }

  /**
   * To be called before [`from`, `to`) get `state`.
   * @throws Qcow2fsError NO_SPACE, IO: they must not get it then.
   */
  reserve(from: number, to: number, state: number): void {
    for (let at = from; at < to; ) {
      const page = Math.floor(at / BLOCKS_PER_PAGE);
      const end = Math.min(to, (page + 1) * BLOCKS_PER_PAGE);
      if (this.#blocks.kindOf(page) !== state) {
        this.#reserveKind(page);
        // As in `BlockMap.setRange`.
        if (state !== ZERO || end - at < BLOCKS_PER_PAGE) this.#reservePage(page);
      }
      at = end;
    }
  }

  /** No kind of the block has changed yet since it was read from the file. */
  #reserveKind(page: number): void {
    const block = Math.floor(page / PAGES_PER_KIND_BLOCK);
    if (this.#kindBlocks[block] === 1) return;
    const first = block * PAGES_PER_KIND_BLOCK;
    const count = Math.min(PAGES_PER_KIND_BLOCK, this.#blocks.pageCount - first);
    // All of them: the blocks of the file system may be smaller.
    const kinds = Buffer.from(Array.from({ length: count }, (_, index) => this.#blocks.kindOf(first + index)));
    writeFile(this.#memory, kinds, 0, count, this.#layout.kindsStart + first);
    this.#kindBlocks[block] = 1;
  }

  /** In the file, the page is not MIXED. */
  #reservePage(page: number): void {
    if (this.#pages[page] === 1) return;
    writeFile(this.#memory, NO_WORDS, 0, MAP_PAGE_BYTES, this.#layout.mapStart + page * MAP_PAGE_BYTES);
    this.#pages[page] = 1;
  }
}
