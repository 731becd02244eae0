/** The current state of an image that somebody writes to is nobody's state, and so is whatever stands on a file that is written to. */

import { Qcow2fsError } from '../errors.ts';
import { isUnchanged } from '../storage/file-storage.ts';
import { filesOfLayers, imageFileOf, type Layer } from './layers.ts';

/** @throws Qcow2fsError BUSY if somebody writes to the image; `writerOf` tells who. */
export function requireQuiet(layer: Layer | undefined, writerOf: (fd: number) => string | undefined): void {
  const writer = layer && writerOf(layer.file.fd);
  if (layer === undefined || writer === undefined) return;
  const { path } = layer.file;
  throw new Qcow2fsError(
    'BUSY',
    `${path} is written to by ${writer}: its current state cannot be read meanwhile, its snapshots can`,
    { data: { file: path } },
  );
}

/**
 * Snapshots are no way out here: they are read through the same files.
 * @throws Qcow2fsError BUSY if somebody writes to a file that the image stands on; `writerOf` tells who.
 */
export function requireLowerQuiet(layers: readonly Layer[], writerOf: (fd: number) => string | undefined): void {
  for (const { fd, path } of filesOfLayers(layers.slice(1))) {
    const writer = writerOf(fd);
    if (writer !== undefined) throw lowerBusy('BUSY', path, imageFileOf(layers).path, writer);
  }
}

/** `path` is below the image; who writes to it, if that is known. */
export function lowerBusy(code: 'BUSY' | 'STALE', path: string, imagePath: string, writer?: string): Qcow2fsError {
  const what = writer === undefined ? 'is being written to' : `is written to by ${writer}`;
  return new Qcow2fsError(
    code,
    `${path} ${what}: ${imagePath} stands on it, and none of its states can be read meanwhile`,
    {
      data: { file: path },
    },
  );
}

/** @throws Qcow2fsError STALE if the file of a layer was written to since it was opened. */
export function requireUnchanged(layers: readonly Layer[]): void {
  const changed = layers.find(({ file }) => !isUnchanged(file));
  if (changed === undefined) return;
  const { path } = changed.file;
  throw new Qcow2fsError('STALE', `${path} was written to meanwhile: try again`, { data: { file: path } });
}
