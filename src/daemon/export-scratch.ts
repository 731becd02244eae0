/** What becomes of a scratch view when its mount has ended: a qcow2 file, if that was asked for. */

import fs from 'node:fs';
import path from 'node:path';
import { warn } from '../common/logging.ts';
import { messageOf, Qcow2fsError } from '../errors.ts';
import { exportView, toOverlayBase } from '../open-image/export-view.ts';
import { imageFileOf } from '../open-image/layers.ts';
import { requireLowerQuiet } from '../open-image/require-quiet.ts';
import { ScratchFiles } from '../open-image/scratch-files.ts';
import { Delta } from '../overlay/delta.ts';
import { type DaemonOptions, deltaPathOf } from './mount-options.ts';
import type { ServedImage } from './served-image.ts';
import type { ServedScratch } from './served-scratch.ts';
import { stateFilesOf, stateOfBlock } from './served-tree.ts';
import { writerOf } from './writer-of.ts';

/**
 * Before anything is mounted, as far as it can be told.
 * @throws Qcow2fsError IO for a file that is there already or cannot be made; as `toOverlayBase`, and REFUSED for a delta that is
 * left from an export that failed.
 */
export function requireExportable(served: ServedImage, options: DaemonOptions): void {
  const { scratch, chain } = options;
  if (scratch?.export === undefined) return;
  const { path: target, isFlat } = scratch.export;
  requireNew(target);
  const delta = deltaPathOf(scratch);
  if (scratch.deltaPath === undefined && delta !== undefined && isThere(delta)) {
    throw new Qcow2fsError(
      'REFUSED',
      `${delta} has changes that were not exported: \`--delta ${delta}\` goes on with them`,
      {
        data: { file: delta },
      },
    );
  }
  if (!isFlat) toOverlayBase(served.image, stateFilesOf(served), chain, undefined);
}

function requireNew(target: string): void {
  if (isThere(target)) {
    const message = `${target} is there already, and nothing is overwritten: choose another name`;
    throw new Qcow2fsError('IO', message, { data: { file: target } });
  }
  try {
    fs.accessSync(path.dirname(target), fs.constants.W_OK);
  } catch (cause) {
    throw cannotBeMade(target, cause);
  }
}

/** Also true for a symlink to nothing. @throws Qcow2fsError IO for a name that cannot be looked at. */
function isThere(file: string): boolean {
  try {
    return fs.lstatSync(file, { throwIfNoEntry: false }) !== undefined;
  } catch (cause) {
    throw cannotBeMade(file, cause);
  }
}

function cannotBeMade(file: string, cause: unknown): Qcow2fsError {
  return new Qcow2fsError('IO', `${file} cannot be made: ${messageOf(cause)}`, { data: { file }, cause });
}

/** Returns the exit code of the process. What fails, also by `signal`, is told in the log, with where the changes are. */
export async function exportScratch(
  served: ServedImage,
  { block, delta }: ServedScratch,
  { scratch, chain }: DaemonOptions,
  signal: AbortSignal,
): Promise<number> {
  if (scratch?.export === undefined) return 0;
  const { path: target, isFlat } = scratch.export;
  const deltaPath = deltaPathOf(scratch);
  try {
    const state = stateOfBlock(served, block);
    if (state === undefined) {
      throw new Qcow2fsError('STALE', `${served.imagePath}: the state is not there any more`);
    }
    const files = stateFilesOf(served);
    const { image } = served;
    requireLowerQuiet(image.layers, writerOf);
    const base = isFlat ? undefined : toOverlayBase(image, files, chain, writerOf(imageFileOf(image.layers).fd));
    await exportView({ view: new ScratchFiles(files, state, new Delta(delta)).view, path: target, base, signal });
    if (scratch.deltaPath === undefined && deltaPath !== undefined) fs.unlinkSync(deltaPath);
    return 0;
  } catch (error) {
    warn(`${target} was not exported: ${messageOf(error)}; the changes are in ${deltaPath}`);
    return 1;
  }
}
