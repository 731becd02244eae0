/** Whether a scratch view can become a qcow2 file at its end. */

import fs from 'node:fs';
import path from 'node:path';
import { messageOf, Qcow2fsError } from '../errors.ts';
import { toOverlayBase } from '../open-image/export-view.ts';
import { type DaemonOptions, deltaPathOf } from './mount-options.ts';
import type { ServedImage } from './served-image.ts';
import { stateFilesOf } from './served-tree.ts';

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
