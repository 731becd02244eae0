/** Where deltas come from: files that are thrown away, and files that are kept. */

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createWithoutName } from '../common/create-for-owner.ts';
import { messageOf, Qcow2fsError } from '../errors.ts';
import { BlockMap, MIXED } from './block-map.ts';
import { closeOnError } from './close-on-error.ts';
import { Delta } from './delta.ts';
import { readFile } from './delta-file.ts';
import {
  BLOCK_BYTES,
  createDeltaMemory,
  type DeltaMemory,
  type KeptLayout,
  requireSupportedSize,
  USED_BLOCKS,
  WRITTEN_AT,
} from './delta-memory.ts';
import { extendFile, type KeptFile, openKeptFile } from './kept-file.ts';
import { MapSpace } from './map-space.ts';
import { decodeMapPage, MAP_PAGE_BYTES } from './wire/delta-header.ts';

/**
 * Makes a delta that is gone with the process, in a file without a name.
 * @param options.sizeBytes of the disk
 * @param options.maxBytes how much the file may take
 * @param options.folder where the file is; the folder for temporary files if not given
 * @throws Qcow2fsError IO for a folder that cannot be written; UNSUPPORTED for a disk that is too large.
 */
export function createTemporaryDelta(options: {
  readonly sizeBytes: number;
  readonly maxBytes: number;
  readonly folder?: string;
}): DeltaMemory {
  const { sizeBytes, maxBytes, folder = os.tmpdir() } = options;
  requireSupportedSize(sizeBytes);
  const name = `the delta in ${folder}`;
  const fd = openWithoutName(folder);
  return closeOnError(fd, () => {
    extendFile({ fd, name }, Math.ceil(sizeBytes / BLOCK_BYTES) * BLOCK_BYTES);
    return createDeltaMemory({ fd, name, sizeBytes, dataStart: 0, kept: undefined }, maxBytes);
  });
}

/**
 * Opens the delta that is kept in a file, and makes the file if there is none.
 * @param options.sizeBytes of the disk
 * @param options.maxBytes how much the blocks in the file may take
 * @param options.imagePath, options.stateText for messages
 * @param options.identity tells the state from all others, of this image and any other; at most 1 KiB
 * @throws Qcow2fsError REFUSED for a file that is no delta, or that of another state; BUSY while somebody else has it;
 * UNSUPPORTED, DAMAGED, NO_SPACE or IO.
 */
export async function openKeptDelta(
  filePath: string,
  options: {
    readonly sizeBytes: number;
    readonly maxBytes: number;
    readonly imagePath: string;
    readonly stateText: string;
    readonly identity: string;
  },
): Promise<DeltaMemory> {
  const { sizeBytes, maxBytes, imagePath: image, stateText: state, identity } = options;
  requireSupportedSize(sizeBytes);
  const file = openKeptFile(path.resolve(filePath), { sizeBytes, image, state, identity });
  return closeOnError(file.fd, () => {
    const { fd, name, dataStart, layout } = file;
    const memory = createDeltaMemory({ fd, name, sizeBytes, dataStart, kept: layout }, maxBytes);
    loadMap(memory, file);
    return memory;
  });
}

/**
 * Closes the file of a delta; a kept one is synced first. To be called when no other thread uses it any more, in any case.
 * @throws Qcow2fsError IO if what was written may not have been kept. The file is closed then as well.
 */
export function closeDelta(memory: DeltaMemory): void {
  try {
    new Delta(memory).sync();
  } finally {
    fs.closeSync(memory.fd);
  }
}

function openWithoutName(folder: string): number {
  try {
    return createWithoutName(folder, '.qcow2fs-delta-');
  } catch (cause) {
    throw new Qcow2fsError(
      'IO',
      `no file for what is written can be made in the folder ${folder}: ${messageOf(cause)}; set TMPDIR to a folder that ` +
        'can be written and has the space',
      { data: { folder }, cause },
    );
  }
}

/** Reads the pages of the map that are not alike: all others are holes of the file. */
function loadMap(memory: DeltaMemory, file: KeptFile): void {
  const blocks = new BlockMap(memory);
  const kinds = Buffer.alloc(blocks.pageCount);
  readFile(file, kinds, 0, kinds.length, file.layout.kindsStart);
  const space = new MapSpace(memory, file.layout, blocks);
  const page = Buffer.alloc(MAP_PAGE_BYTES);
  for (const [index, kind] of kinds.entries()) {
    if (kind > MIXED) throw damaged(file, `the kind of page ${index} is ${kind}`);
    if (kind === MIXED) {
      loadPage(file, file.layout, blocks, index, page);
      space.noteLoaded(index);
    }
    blocks.load(index, kind);
  }
  const counters = new BigInt64Array(memory.counters);
  counters[USED_BLOCKS] = BigInt(blocks.countData(0, Math.ceil(memory.sizeBytes / BLOCK_BYTES)));
  counters[WRITTEN_AT] = kinds.some((kind) => kind !== 0) ? BigInt(file.changedAtMs) : 0n;
}

function loadPage(file: KeptFile, layout: KeptLayout, blocks: BlockMap, index: number, page: Buffer): void {
  readFile(file, page, 0, page.length, layout.mapStart + index * MAP_PAGE_BYTES);
  if (!decodeMapPage(page, 0, blocks.wordsOf(index))) throw damaged(file, `page ${index} of its map is invalid`);
}

function damaged(file: KeptFile, what: string): Qcow2fsError {
  return new Qcow2fsError('DAMAGED', `${file.name} is damaged: ${what}`);
}
