/** The files an image stands on: itself, its backing file, that file's backing file, and so on. */

import fs from 'node:fs';
import { decodeName } from '../common/names.ts';
import { type Gate, impliedPath } from '../disk/gate.ts';
import { decodeImpliedName } from '../disk/implied-name.ts';
import { Qcow2fsError } from '../errors.ts';
import { openQcow2, type Qcow2File, type Qcow2Metadata } from '../qcow2/open-qcow2.ts';
import { refuseUnsupportedFeatures } from '../qcow2/unsupported-features.ts';
import { FileStorage, type OpenFile, openFile } from '../storage/file-storage.ts';
import { isReadAsQcow2, type Reading, readingInPlaceOf } from './backing-format.ts';
import { findAllowedFolders, findOwnFolders, type Need, openImpliedFile, openNamedFile } from './implied-file.ts';

/** QEMU has no limit; nobody has a chain like that, but a crafted folder of images may. */
const MAX_LAYER_COUNT = 64;

/** What the user says about the backing files of an image; all paths are absolute. */
export interface ChainOptions {
  /** Folders that backing and data files may be in, besides the image's own. */
  readonly allowedFolders: readonly string[];
  /** What they may lead into by no means, not even to be refused then. */
  readonly forbiddenFolder?: string;
  /** A file to take as the backing file of the image, in place of the one that the image names; null to take none. */
  readonly backingPath?: string | null;
  /** A file to take as the external data file of the image, in place of the one that the image names. */
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
  /**
   * Where the files may be that it implies, as in `Gate`; of a layer that the user named, once it was asked for. It stays true
   * when the name of the layer leads elsewhere.
   */
  readonly ownFolders?: readonly string[];
}

/**
 * Opens the image alone, whatever features it uses.
 * @throws Qcow2fsError NOT_FOUND, IO, NOT_QCOW2, DAMAGED, PAST_END.
 */
export function openTopLayer(imagePath: string, openPath = imagePath): Layer & { readonly qcow2: Qcow2Metadata } {
  const file = openFile(imagePath, openPath);
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
export function openBackingChain(layers: Layer[], chain: ChainOptions): void {
  const { backingPath, forbiddenFolder } = chain;
  const [top] = layers;
  if (top === undefined) return;
  if (top.qcow2?.backingName === undefined) {
    if (typeof backingPath === 'string') throw namesNone(top, 'backing file', '--backing');
    return;
  }
  if (backingPath === null) return;
  if (backingPath !== undefined) {
    const reading = readingInPlaceOf(top.file.path, top.qcow2, top.qcow2.backingName);
    const { file, ownFolders } = openNamedFile(backingPath, needOfBacking(top, top), forbiddenFolder);
    layers.push({ ...toBackingLayer(file, reading, top, layers), ownFolders });
  }
  let gate: Gate | undefined;
  for (;;) {
    const above = layers.at(-1);
    if (above?.qcow2?.backingName === undefined) return;
    if (layers.length >= MAX_LAYER_COUNT) {
      throw new Qcow2fsError('DAMAGED', `${top.file.path}: its backing chain has over ${MAX_LAYER_COUNT} files`);
    }
    refuseLostFormat(above, layers);
    const name = decodeImpliedName(above.file.path, above.qcow2.backingName, above.qcow2.backingFormat);
    gate ??= gateOf(layers, layers.length - 1, chain);
    const implied = impliedPath(above.file.path, name.path);
    const file = openImpliedFile(implied, needOfBacking(above, top), gate, forbiddenFolder);
    layers.push(toBackingLayer(file, name, above, layers));
  }
}

/** True if the image has a backing file that `openBackingChain` was told to leave out. */
export function isBackingLeftOut(layers: readonly Layer[]): boolean {
  return layers.at(-1)?.qcow2?.backingName !== undefined;
}

/** The image itself. */
export function imageFileOf([layer]: readonly Layer[]): OpenFile {
  if (layer === undefined) throw new Qcow2fsError('INTERNAL', 'an image without a file');
  return layer.file;
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
export function openDataFiles(layers: Layer[], chain: ChainOptions): void {
  const { dataFilePath, forbiddenFolder } = chain;
  const [top] = layers;
  if (dataFilePath !== undefined && top?.qcow2?.hasDataFile === false) {
    throw namesNone(top, 'external data file', '--data-file');
  }
  for (const [depth, layer] of layers.entries()) {
    if (layer.qcow2?.hasDataFile !== true) continue;
    const named = depth === 0 ? dataFilePath : undefined;
    const need = needOfDataFile(layer, top ?? layer);
    const dataFile =
      named === undefined
        ? openImpliedFile(
            dataFilePathOf(layer, layer.qcow2, top ?? layer),
            need,
            gateOf(layers, depth, chain),
            forbiddenFolder,
          )
        : openNamedFile(named, need, forbiddenFolder).file;
    try {
      refuseQcow2AsData(dataFile, need, layers, named !== undefined);
    } catch (error) {
      fs.closeSync(dataFile.fd);
      throw error;
    }
    // Not the layer as it was: `gateOf` may have added to it.
    layers[depth] = { ...(layers[depth] ?? layer), dataFile };
  }
}

/** To ignore the option would show another disk than the one that its user expects. */
function namesNone({ file }: Layer, what: string, option: string): Qcow2fsError {
  return new Qcow2fsError('USAGE', `${file.path} names no ${what}: leave ${option} out`, { data: { file: file.path } });
}

function dataFilePathOf({ file }: Layer, { dataFileName }: Qcow2Metadata, top: Layer): string {
  if (dataFileName === undefined) {
    const remedy = file === top.file ? '--data-file FILE does' : remedyBelow(top);
    throw new Qcow2fsError('DAMAGED', `${file.path} needs an external data file, but does not name it: ${remedy}`, {
      data: { file: file.path },
    });
  }
  // Not decodeImpliedName: QEMU takes this one as a file name, whatever is in it.
  return impliedPath(file.path, decodeName(dataFileName).text);
}

/** Tables and headers would pass for the bytes of the disk. */
function refuseQcow2AsData(dataFile: OpenFile, need: Need, layers: readonly Layer[], isNamed: boolean): void {
  const found = layers.find(({ file, qcow2 }) => qcow2 !== undefined && file.identity === dataFile.identity)?.file.path;
  if (found === undefined) return;
  const { imagePath, remedy } = need;
  const what = found === imagePath ? 'the image itself' : `${found}, a qcow2 image of the chain`;
  const [code, message] = isNamed
    ? (['USAGE', `--data-file ${dataFile.path} is ${what}: name the external data file of ${imagePath}`] as const)
    : (['DAMAGED', `${imagePath}: its external data file name ${dataFile.path} leads to ${what}: ${remedy}`] as const);
  throw new Qcow2fsError(code, message, { data: { file: imagePath, dataFile: dataFile.path } });
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

/**
 * What judges the files that the layer at `depth` implies. An image may imply what lies beside it, and so may its backing files; where
 * the user named the backing file, that one and those below may imply what lies beside that one.
 * @throws Qcow2fsError STALE if the layer has lost its name; NOT_FOUND, REFUSED, IO.
 */
function gateOf(layers: Layer[], depth: number, { allowedFolders, backingPath, forbiddenFolder }: ChainOptions): Gate {
  const namedDepth = depth > 0 && typeof backingPath === 'string' ? 1 : 0;
  const layer = layers[namedDepth];
  if (layer === undefined) throw new Qcow2fsError('INTERNAL', 'a gate without an image');
  const ownFolders = findOwnFolders(layer.file, layer.ownFolders, forbiddenFolder);
  layers[namedDepth] = { ...layer, ownFolders };
  return { ownFolders, allowedFolders: findAllowedFolders(allowedFolders, forbiddenFolder) };
}

function needOfBacking({ file }: Layer, top: Layer): Need {
  const remedy = file === top.file ? '--backing FILE takes another one, --no-backing none' : remedyBelow(top);
  return { imagePath: file.path, what: 'backing file', remedy };
}

function needOfDataFile({ file }: Layer, top: Layer): Need {
  const remedy = file === top.file ? '--data-file FILE takes another one' : remedyBelow(top);
  return { imagePath: file.path, what: 'data file', remedy };
}

/** The options are for what the image itself names. */
function remedyBelow(top: Layer): string {
  return `--backing FILE takes another backing file of ${top.file.path}, --no-backing none`;
}

/** Closes the file when it throws. */
function toBackingLayer(file: OpenFile, reading: Reading, above: Layer, layers: readonly Layer[]): Layer {
  const { path } = file;
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
    return { file, qcow2: isReadAsQcow2(file, above.file.path, reading) ? readMetadata(file) : undefined };
  } catch (error) {
    fs.closeSync(file.fd);
    throw error;
  }
}

/**
 * To guess the format would be to show other bytes than those of the disk, if it was another one.
 * @throws Qcow2fsError DAMAGED.
 */
function refuseLostFormat({ file, qcow2 }: Layer, layers: readonly Layer[]): void {
  if (qcow2?.lostBackingFormat === undefined) return;
  const [top] = layers;
  const remedy =
    layers.length === 1 || top === undefined
      ? '--backing FILE takes FILE, which is qcow2 if it looks like it, --no-backing takes none'
      : remedyBelow(top);
  throw new Qcow2fsError(
    'DAMAGED',
    `${file.path}: ${qcow2.lostBackingFormat}; so the format of its backing file is not known: ${remedy}`,
    { data: { file: file.path } },
  );
}

function readMetadata(file: OpenFile): Qcow2Metadata {
  const { storage: _, dataStorage: __, ...metadata } = openQcow2(new FileStorage(file));
  return metadata;
}
