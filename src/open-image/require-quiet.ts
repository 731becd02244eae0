/** The current state of an image that somebody writes to is nobody's state. */

import { Qcow2fsError } from '../errors.ts';
import { isUnchanged } from '../storage/file-storage.ts';
import type { Layer } from './layers.ts';

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

/** @throws Qcow2fsError STALE if the file of a layer was written to since it was opened. */
export function requireUnchanged(layers: readonly Layer[]): void {
  const changed = layers.find(({ file }) => !isUnchanged(file));
  if (changed === undefined) return;
  const { path } = changed.file;
  throw new Qcow2fsError('STALE', `${path} was written to meanwhile: try again`, { data: { file: path } });
}
