/** The files an image stands on: itself, its backing file, that file's backing file, and so on. */

import fs from 'node:fs';
import path from 'node:path';
import { createGate, type Gate, impliedPath, passGate } from '../disk/gate.ts';
import { decodeImpliedName, type ImpliedName } from '../disk/implied-name.ts';
import { messageOf, Qcow2fsError } from '../errors.ts';
import { hasQcowMagic, lookOf, openQcow2, type Qcow2File, type Qcow2Metadata } from '../qcow2/open-qcow2.ts';
import { refuseUnsupportedFeatures } from '../qcow2/unsupported-features.ts';
import { DISK_FORMATS } from '../qcow2/wire/other-formats.ts';
import { FileStorage, type OpenFile, openFile } from '../storage/file-storage.ts';

/** QEMU has no limit; nobody has a chain like that, but a crafted folder of images may. */
const MAX_LAYER_COUNT = 64;

/** What the user says about the backing files of an image; all paths are absolute. */
export interface ChainOptions {
  /** Folders that backing files may be in, besides the image's own. */
  readonly allowedFolders: readonly string[];
  /** What they may lead into by no means, not even to be refused then. */
  readonly forbiddenFolder?: string;
  /** A file to take as the backing file of the image, whatever the image says; null to take none. */
  readonly backingPath?: string | null;
  /** A file to take as the external data file of the image, whatever the image says. */
  readonly dataFilePath?: string;
}

export const NO_CHAIN_OPTIONS: ChainOptions = { allowedFolders: [] };

/** An open layer as plain data. */
export interface Layer {
  readonly file: OpenFile;
  /** undefined for a raw file. */
  readonly qcow2: Qcow2Metadata | undefined;
  /** The external data file, once it is open. */
  readonly dataFile?: OpenFile;
}

/**
 * Opens the image alone, whatever features it uses.
 * @throws Qcow2fsError NOT_FOUND, IO, NOT_QCOW2, DAMAGED, PAST_END.
 */
export function openTopLayer(imagePath: string, openPath = imagePath): Layer & { readonly qcow2: Qcow2Metadata } {
  const file = { ...openFile(openPath), path: imagePath };
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
 * @throws Qcow2fsError naming the file that cannot be opened or read, and the image that wants it; USAGE for a
 * `backingPath` where the image names no backing file.
 */
export function openBackingChain(
  layers: Layer[],
  { allowedFolders, backingPath, forbiddenFolder }: ChainOptions,
): void {
  const [top] = layers;
  if (top === undefined) return;
  if (top.qcow2?.backingName === undefined) {
    if (typeof backingPath === 'string') throw namesNone(top, 'backing file', '--backing');
    return;
  }
  if (backingPath === null) return;
  // A file that the user named is no implied one, and its folder is as good as the image's own.
  const named = backingPath === undefined ? [] : [path.dirname(backingPath)];
  const gate = createGate(top.file.path, [...allowedFolders, ...named], forbiddenFolder);
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

/** All files that the layers have open. */
export function filesOfLayers(layers: readonly Layer[]): OpenFile[] {
  return layers.flatMap(({ file, dataFile }) => (dataFile === undefined ? [file] : [file, dataFile]));
}

/** What the reader of a layer reads from. */
export function toQcow2File({ file, dataFile }: Layer, qcow2: Qcow2Metadata): Qcow2File {
  const storage = new FileStorage(file);
  return { ...qcow2, storage, dataStorage: dataFile === undefined ? storage : new FileStorage(dataFile) };
}

/**
 * Opens the external data files of `layers`, in place.
 * @throws Qcow2fsError as `openBackingChain`.
 */
export function openDataFiles(layers: Layer[], { allowedFolders, dataFilePath, forbiddenFolder }: ChainOptions): void {
  const [top] = layers;
  if (dataFilePath !== undefined && top?.qcow2?.hasDataFile === false) {
    throw namesNone(top, 'external data file', '--data-file');
  }
  for (const [depth, layer] of layers.entries()) {
    if (layer.qcow2?.hasDataFile !== true) continue;
    const gate = createGate(layers[0]?.file.path ?? '', allowedFolders, forbiddenFolder);
    const named = depth === 0 ? dataFilePath : undefined;
    layers[depth] = { ...layer, dataFile: named === undefined ? openImpliedDataFile(layer, gate) : openFile(named) };
  }
}

/** To ignore the option would show another disk than the one that its user expects. */
function namesNone({ file }: Layer, what: string, option: string): Qcow2fsError {
  return new Qcow2fsError('USAGE', `${file.path} names no ${what}: leave ${option} out`, { data: { file: file.path } });
}

function openImpliedDataFile({ file, qcow2 }: Layer, gate: Gate): OpenFile {
  if (qcow2?.dataFileName === undefined) {
    throw new Qcow2fsError(
      'DAMAGED',
      `${file.path} needs an external data file, but does not name it: --data-file FILE does`,
      { data: { file: file.path } },
    );
  }
  // Not decodeImpliedName: QEMU takes this one as a file name, whatever is in it.
  const name = Buffer.from(qcow2.dataFileName, 'latin1').toString('utf8');
  const implied = impliedPath(file.path, name);
  return openImpliedFile(implied, file.path, gate, 'data file', '--data-file FILE takes another one');
}

/** Closes the files of all layers. */
export function closeLayers(layers: readonly Layer[]): void {
  for (const file of filesOfLayers(layers)) fs.closeSync(file.fd);
}

/**
 * Refuses layers with features that this reader lacks.
 * @throws Qcow2fsError UNSUPPORTED, naming the file and the features.
 */
export function refuseUnsupportedLayers(layers: readonly Layer[]): void {
  for (const { file, qcow2 } of layers) {
    if (qcow2 !== undefined) refuseUnsupportedFeatures(file.path, qcow2);
  }
}

function openBackingLayer(name: ImpliedName, above: Layer, layers: readonly Layer[], gate: Gate): Layer {
  const { path } = name;
  const remedy = '--backing FILE takes another one, --no-backing none';
  const file = openImpliedFile(path, above.file.path, gate, 'backing file', remedy);
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

function openImpliedFile(path: string, abovePath: string, gate: Gate, what: string, remedy: string): OpenFile {
  try {
    // Relative names in it start at the folder of the name by which it is known, not of the file behind a symlink.
    return { ...openFile(passGate(gate, abovePath, path, what)), path };
  } catch (cause) {
    if (!(cause instanceof Qcow2fsError) || cause.code === 'REFUSED') throw cause;
    const hint = cause.code === 'NOT_FOUND' ? ` (${remedy})` : '';
    throw new Qcow2fsError(cause.code, `${abovePath} needs its ${what}: ${messageOf(cause)}${hint}`, {
      data: { file: abovePath, implied: path },
      cause,
    });
  }
}

/** The format that the layer above names; without a name it is probed, as QEMU does. */
function isQcow2(file: OpenFile, above: Layer, namedFormat: ImpliedName['format']): boolean {
  const format = namedFormat ?? above.qcow2?.backingFormat;
  if (format === 'qcow2') return true;
  if (format === 'raw' || format === 'host_device') return false;
  if (format === undefined || format === '') return isQcow2ByItsLook(file, above);
  throw new Qcow2fsError(
    'UNSUPPORTED',
    `${above.file.path}: the format "${format}" of its backing file is not supported`,
    {
      data: { file: above.file.path, format },
    },
  );
}

/**
 * QEMU probes all its formats. A raw disk is what shows none of them: bytes of another format, or ciphertext, must not
 * pass for a disk.
 * @throws Qcow2fsError UNSUPPORTED for what looks like another format of disks.
 */
function isQcow2ByItsLook(file: OpenFile, above: Layer): boolean {
  const storage = new FileStorage(file);
  if (hasQcowMagic(storage)) return true;
  const format = lookOf(storage, DISK_FORMATS);
  if (format === undefined) return false;
  throw new Qcow2fsError(
    'UNSUPPORTED',
    `${above.file.path} does not say the format of its backing file ${file.path}, which looks like ${format}; if it is raw, ` +
      `say so: qemu-img rebase -u -b FILE -F raw ${above.file.path}`,
    { data: { file: above.file.path, backingFile: file.path, format } },
  );
}

function readMetadata(file: OpenFile): Qcow2Metadata {
  const { storage: _, dataStorage: __, ...metadata } = openQcow2(new FileStorage(file));
  return metadata;
}
