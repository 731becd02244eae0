/** The files an image stands on: itself, its backing file, that file's backing file, and so on. */

import fs from 'node:fs';
import path from 'node:path';
import { createGate, type Gate, impliedPath, passGate } from '../disk/gate.ts';
import { decodeImpliedName, type ImpliedName } from '../disk/implied-name.ts';
import { messageOf, Qcow2fsError } from '../errors.ts';
import { hasQcowMagic, openQcow2, type Qcow2Metadata } from '../qcow2/open-qcow2.ts';
import { refuseUnsupportedFeatures } from '../qcow2/unsupported-features.ts';
import { FileStorage, type OpenFile, openFile } from '../storage/file-storage.ts';

/** QEMU has no limit; nobody has a chain like that, but a crafted folder of images may. */
const MAX_LAYER_COUNT = 64;

/** What the user says about the backing files of an image; all paths are absolute. */
export interface ChainOptions {
  /** Folders that backing files may be in, besides the image's own. */
  readonly allowedFolders: readonly string[];
  /** A file to take as the backing file of the image, whatever the image says; null to take none. */
  readonly backingPath?: string | null;
}

export const NO_CHAIN_OPTIONS: ChainOptions = { allowedFolders: [] };

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
export function openBackingChain(layers: Layer[], { allowedFolders, backingPath }: ChainOptions): void {
  const [top] = layers;
  if (top?.qcow2?.backingName === undefined || backingPath === null) return;
  // A file that the user named is no implied one, and its folder is as good as the image's own.
  const named = backingPath === undefined ? [] : [path.dirname(backingPath)];
  const gate = createGate(top.file.path, [...allowedFolders, ...named]);
  if (backingPath !== undefined)
    layers.push(openBackingLayer({ path: backingPath, format: undefined }, top, layers, gate));
  for (;;) {
    const above = layers.at(-1);
    if (above?.qcow2?.backingName === undefined) return;
    if (layers.length >= MAX_LAYER_COUNT) {
      throw new Qcow2fsError('DAMAGED', `${top.file.path}: its backing chain has over ${MAX_LAYER_COUNT} files`);
    }
    const name = decodeImpliedName(above.file.path, above.qcow2.backingName);
    layers.push(openBackingLayer({ ...name, path: impliedPath(above.file.path, name.path) }, above, layers, gate));
  }
}

/** True if the image has a backing file that `openBackingChain` was told to leave out. */
export function isBackingLeftOut(layers: readonly Layer[]): boolean {
  return layers.at(-1)?.qcow2?.backingName !== undefined;
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

function openBackingLayer(name: ImpliedName, above: Layer, layers: readonly Layer[], gate: Gate): Layer {
  const { path } = name;
  const file = openBackingFile(path, above.file.path, gate);
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
    return { file, qcow2: isQcow2(file, above, name.format) ? readMetadata(file) : undefined };
  } catch (error) {
    fs.closeSync(file.fd);
    throw error;
  }
}

function openBackingFile(path: string, abovePath: string, gate: Gate): OpenFile {
  try {
    // Relative names in it start at the folder of the name by which it is known, not of the file behind a symlink.
    return { ...openFile(passGate(gate, abovePath, path)), path };
  } catch (cause) {
    if (!(cause instanceof Qcow2fsError) || cause.code === 'REFUSED') throw cause;
    const remedy = cause.code === 'NOT_FOUND' ? ' (--backing FILE takes another one, --no-backing none)' : '';
    throw new Qcow2fsError(cause.code, `${abovePath} needs its backing file: ${messageOf(cause)}${remedy}`, {
      data: { file: abovePath, backingFile: path },
      cause,
    });
  }
}

/** The format that the layer above names; without a name it is probed, as QEMU does. */
function isQcow2(file: OpenFile, above: Layer, namedFormat: ImpliedName['format']): boolean {
  const format = namedFormat ?? above.qcow2?.backingFormat;
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
