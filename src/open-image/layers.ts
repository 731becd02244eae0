/** The files an image stands on: itself, its backing file, that file's backing file, and so on. */

import fs from 'node:fs';
import { resolveImpliedPath } from '../disk/gate.ts';
import { messageOf, Qcow2fsError } from '../errors.ts';
import { hasQcowMagic, openQcow2, type Qcow2Metadata } from '../qcow2/open-qcow2.ts';
import { refuseUnsupportedFeatures } from '../qcow2/unsupported-features.ts';
import { FileStorage, type OpenFile, openFile } from '../storage/file-storage.ts';

/** QEMU has no limit; nobody has a chain like that, but a crafted folder of images may. */
const MAX_LAYER_COUNT = 256;

/** An open layer as plain data. */
export interface Layer {
  readonly file: OpenFile;
  /** undefined for a raw file. */
  readonly qcow2: Qcow2Metadata | undefined;
}

/**
 * Opens the image alone, whatever features it uses.
 * @throws Qcow2fsError NOT_FOUND, IO, NOT_QCOW2, DAMAGED, PAST_END.
 */
export function openTopLayer(imagePath: string): Layer & { readonly qcow2: Qcow2Metadata } {
  const file = openFile(imagePath);
  try {
    return { file, qcow2: readMetadata(file) };
  } catch (error) {
    fs.closeSync(file.fd);
    throw error;
  }
}

/**
 * Opens the backing chain of `layers[0]` and adds it to `layers`, up to and with the first layer without a backing file.
 * What was opened stays in `layers` when this throws.
 * @throws Qcow2fsError naming the file that cannot be opened or read, and the image that wants it.
 */
export function openBackingChain(layers: Layer[]): void {
  for (;;) {
    const above = layers.at(-1);
    if (above?.qcow2?.backingName === undefined) return;
    const path = resolveImpliedPath(above.file.path, above.qcow2.backingName);
    if (layers.length >= MAX_LAYER_COUNT) {
      throw new Qcow2fsError('DAMAGED', `${layers[0]?.file.path}: its backing chain has over ${MAX_LAYER_COUNT} files`);
    }
    layers.push(openBackingLayer(path, above, layers));
  }
}

/** Closes the files of all layers. */
export function closeLayers(layers: readonly Layer[]): void {
  for (const { file } of layers) fs.closeSync(file.fd);
}

/**
 * Refuses layers with features that this reader lacks.
 * @throws Qcow2fsError UNSUPPORTED, naming the file and the features.
 */
export function refuseUnsupportedLayers(layers: readonly Layer[]): void {
  for (const { file, qcow2 } of layers) {
    if (qcow2 !== undefined) refuseUnsupportedFeatures({ ...qcow2, storage: new FileStorage(file) });
  }
}

function openBackingLayer(path: string, above: Layer, layers: readonly Layer[]): Layer {
  const file = openBackingFile(path, above.file.path);
  try {
    if (layers.some((layer) => layer.file.identity === file.identity)) {
      throw new Qcow2fsError(
        'DAMAGED',
        `${above.file.path}: its backing file ${path} is the image itself or stands on it`,
        {
          data: { file: above.file.path, backingFile: path },
        },
      );
    }
    return { file, qcow2: isQcow2(file, above) ? readMetadata(file) : undefined };
  } catch (error) {
    fs.closeSync(file.fd);
    throw error;
  }
}

function openBackingFile(path: string, abovePath: string): OpenFile {
  try {
    return openFile(path);
  } catch (cause) {
    if (!(cause instanceof Qcow2fsError)) throw cause;
    throw new Qcow2fsError(cause.code, `${abovePath} needs its backing file: ${messageOf(cause)}`, {
      data: { file: abovePath, backingFile: path },
      cause,
    });
  }
}

/** The format that the layer above names; without a name it is probed, as QEMU does. */
function isQcow2(file: OpenFile, above: Layer): boolean {
  const format = above.qcow2?.backingFormat;
  if (format === 'qcow2') return true;
  if (format === 'raw' || format === 'host_device') return false;
  if (format === undefined || format === '') return hasQcowMagic(new FileStorage(file));
  throw new Qcow2fsError(
    'UNSUPPORTED',
    `${above.file.path}: the format "${format}" of its backing file is not supported`,
    {
      data: { file: above.file.path, format },
    },
  );
}

function readMetadata(file: OpenFile): Qcow2Metadata {
  const { storage: _, ...metadata } = openQcow2(new FileStorage(file));
  return metadata;
}
