/** Composition: one state of a served image with a delta over it. */

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { warn } from '../common/logging.ts';
import { messageOf, Qcow2fsError } from '../errors.ts';
import { findState } from '../open-image/find-state.ts';
import { imageFileOf } from '../open-image/layers.ts';
import { snapshotsOf } from '../open-image/open-image.ts';
import { ScratchFiles } from '../open-image/scratch-files.ts';
import type { StateFiles } from '../open-image/state-files.ts';
import { stateIdentity } from '../open-image/state-identity.ts';
import { Delta } from '../overlay/delta.ts';
import type { DeltaMemory } from '../overlay/delta-memory.ts';
import { closeDelta, createTemporaryDelta, openKeptDelta } from '../overlay/open-delta.ts';
import { StateRoot, stateDirectoryNode } from '../tree/state-root.ts';
import { createEndReport, readEndReport } from './end-report.ts';
import { deltaPathOf, type ScratchOptions } from './mount-options.ts';
import type { ServedImage } from './served-image.ts';
import { createTree, stateFilesOf, stateOfBlock, type TreeFiles } from './served-tree.ts';

/** Plain data, as all that is served. */
export interface ServedScratch {
  /** The block of inode numbers of the state, by which it is found again when the image is opened anew. */
  readonly block: number;
  readonly delta: DeltaMemory;
  /** A descriptor: see `end-report.ts`. Undefined if nothing is kept, and so nothing can be lost. */
  readonly endReport: number | undefined;
}

const CURRENT = 0;
/** It can be written and read also when a disk fails (shm_overview(7)). */
const MEMORY = '/dev/shm';

/**
 * Finds the state and makes or opens its delta.
 * @throws Qcow2fsError NOT_FOUND, USAGE as `findState`; BUSY for the current state of an image that is written to; what the delta
 * throws.
 */
export async function openScratch(served: ServedImage, options: ScratchOptions): Promise<ServedScratch> {
  const { image, imagePath } = served;
  const state = findState(imagePath, snapshotsOf(image), options.state);
  const files = stateFilesOf(served);
  requireReadable(served, files, state);
  const block = blockOfState(served, state);
  const { sizeBytes } = files.disk(state);
  const size = { sizeBytes, maxBytes: options.maxDeltaBytes };
  const deltaPath = deltaPathOf(options);
  if (deltaPath === undefined) return { block, delta: createTemporaryDelta(size), endReport: undefined };
  const endReport = createEndReport([MEMORY, os.tmpdir(), path.dirname(deltaPath)]);
  try {
    const origin = { imagePath, stateText: options.state, identity: stateIdentity(image, state) };
    // Last: nothing can fail with the delta open.
    return { block, delta: await openKeptDelta(deltaPath, { ...size, ...origin }), endReport };
  } catch (error) {
    fs.closeSync(endReport);
    throw error;
  }
}

/** @throws Qcow2fsError as `StateFiles.requireReadable`, but with what helps here: a base must not change. */
function requireReadable({ image, imagePath }: ServedImage, files: StateFiles, state: number): void {
  try {
    files.requireReadable(state);
  } catch (cause) {
    const isOfImage = cause instanceof Qcow2fsError && cause.data.file === imageFileOf(image.layers).path;
    if (!isOfImage || cause.code !== 'BUSY') throw cause;
    throw new Qcow2fsError(
      'BUSY',
      `${imagePath} is being written to: its current state cannot be read meanwhile, its snapshots can`,
      { cause },
    );
  }
}

/** The file system over it; any thread can have one. */
export function createScratchFileSystem(served: ServedImage, scratch: ServedScratch, isOutline: boolean): StateRoot {
  const state = stateOfBlock(served, scratch.block);
  if (state === undefined) return new StateRoot(createTree(served, { isOutline: true }), undefined, served.ownership);
  const tree = createTree(served, { isOutline, files: scratchTreeFiles(served, scratch, state), isDiskOnly: true });
  return new StateRoot(tree, stateDirectoryNode(scratch.block, state === CURRENT), served.ownership);
}

let isToldGone = false;

/** Tells in the log, once, that the state is gone: who uses the view only gets ESTALE. */
export function tellIfGone(served: ServedImage, { block }: ServedScratch, stateText: string): void {
  if (isToldGone || stateOfBlock(served, block) !== undefined) return;
  isToldGone = true;
  warn(
    `${served.imagePath}: ${stateText} was deleted or written to, so that its scratch view is empty now: unmount it`,
  );
}

/** What cannot be kept is told in the log, unless `finishScratch` has done so. */
export function closeScratch({ delta, endReport }: ServedScratch): void {
  try {
    closeDelta(delta);
  } catch (error) {
    const isTold = endReport !== undefined && readEndReport(endReport) !== undefined;
    if (!isTold) warn(messageOf(error));
  } finally {
    if (endReport !== undefined) fs.closeSync(endReport);
  }
}

/** Only the one state is shown: the others stay what they are. */
function scratchTreeFiles(served: ServedImage, { delta }: ServedScratch, state: number): TreeFiles {
  const files = stateFilesOf(served);
  const scratch = new ScratchFiles(files, state, new Delta(delta));
  const isScratch = (each: number) => each === state;
  return {
    disk: (each) => (isScratch(each) ? scratch.disk : files.disk(each)),
    volumes: (each) => (isScratch(each) ? scratch.volumes() : files.volumes(each)),
    vmState: (each) => files.vmState(each),
    isVolatile: () => true,
    requireReadable: (each) => files.requireReadable(each),
  };
}

function blockOfState({ contents: { blocks, places } }: ServedImage, state: number): number {
  const block = state === CURRENT ? blocks.current : blocks.snapshots[places.indexOf(state - 1)];
  if (block === undefined) throw new Qcow2fsError('INTERNAL', `state ${state} has no inode numbers`);
  return block;
}
