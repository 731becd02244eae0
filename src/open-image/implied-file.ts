/** Opens the files that an image stands on: those that it implies, after the gate has judged where they are, and those of the user. */

import path from 'node:path';
import { decodeName } from '../common/names.ts';
import { type Gate, passGate } from '../disk/gate.ts';
import { messageOf, Qcow2fsError } from '../errors.ts';
import { type OpenFile, openFile } from '../storage/file-storage.ts';
import { type PinnedFile, pinFile, unpinFile } from '../storage/pinned-file.ts';

/** What the file is to the image that needs it, for errors. */
export interface Need {
  readonly imagePath: string;
  readonly what: string;
  /** What helps if the file is not there. */
  readonly remedy: string;
}

/** A file that the user named, with the folders of those that it may imply in turn. */
export interface NamedFile {
  readonly file: OpenFile;
  readonly ownFolders: readonly string[];
}

/**
 * Opens what `gate` lets pass. The file is held on to before it is judged, and opened by what holds it.
 * @throws Qcow2fsError REFUSED; NOT_FOUND or IO, naming the file and the image that needs it.
 */
export function openImpliedFile(implied: string, need: Need, gate: Gate, forbiddenFolder?: string): OpenFile {
  return withPinnedFile(implied, need, forbiddenFolder, (pinned) => {
    passGate(gate, need.imagePath, pinned.realPath, need.what);
    return openPinned(pinned, implied);
  });
}

/** As `openImpliedFile`, for a file that the user named instead: no gate judges it. */
export function openNamedFile(named: string, need: Need, forbiddenFolder?: string): NamedFile {
  return withPinnedFile(named, need, forbiddenFolder, (pinned) => ({
    file: openPinned(pinned, named),
    ownFolders: foldersOf(pinned),
  }));
}

/**
 * The folders of files that an open image may imply: that of its name, and that of the file behind a symlink. A name that does not
 * lead to the image any more says nothing about it: whoever has moved the image may have made the name lead anywhere.
 * @param known what was found before, which is taken then
 * @throws Qcow2fsError STALE if nothing is known; REFUSED, IO.
 */
export function findOwnFolders(
  image: OpenFile,
  known: readonly string[] | undefined,
  forbiddenFolder?: string,
): readonly string[] {
  const folders = foldersOfName(image, known !== undefined, forbiddenFolder) ?? known;
  if (folders !== undefined) return folders;
  throw new Qcow2fsError(
    'STALE',
    `${image.path}: which folder it is in cannot be told: it was moved or replaced while it was opened (try again), or it ` +
      'lies in another mount namespace',
    { data: { file: image.path } },
  );
}

/**
 * Where the folders are that the user allows. What leads into `forbiddenFolder` allows nothing.
 * @throws Qcow2fsError NOT_FOUND, IO.
 */
export function findAllowedFolders(folders: readonly string[], forbiddenFolder?: string): readonly string[] {
  return folders.flatMap((folder) => {
    try {
      const pinned = pinFile(folder, forbiddenFolder);
      unpinFile(pinned);
      return [pinned.realPath];
    } catch (error) {
      if (error instanceof Qcow2fsError && error.code === 'REFUSED') return [];
      throw error;
    }
  });
}

function foldersOf({ nameFolder, realPath }: PinnedFile): readonly string[] {
  return [...new Set([nameFolder, path.dirname(realPath)])];
}

/** Relative names in it start at the folder of the name by which it is known, not of the file behind a symlink. */
function openPinned({ openPath, realPath }: PinnedFile, name: string): OpenFile {
  return { ...openFile(decodeName(realPath).text, openPath), path: name };
}

/** undefined if the name of the image leads elsewhere, or nowhere. */
function foldersOfName(
  image: OpenFile,
  mayFail: boolean,
  forbiddenFolder: string | undefined,
): readonly string[] | undefined {
  let pinned: PinnedFile;
  try {
    pinned = pinFile(image.path, forbiddenFolder);
  } catch (error) {
    if (error instanceof Qcow2fsError && (mayFail || error.code === 'NOT_FOUND')) return undefined;
    throw error;
  }
  try {
    return pinned.identity === image.identity ? foldersOf(pinned) : undefined;
  } finally {
    unpinFile(pinned);
  }
}

function withPinnedFile<Result>(
  name: string,
  { imagePath, what, remedy }: Need,
  forbiddenFolder: string | undefined,
  use: (pinned: PinnedFile) => Result,
): Result {
  try {
    const pinned = pinForImage(name, imagePath, what, forbiddenFolder);
    try {
      return use(pinned);
    } finally {
      unpinFile(pinned);
    }
  } catch (cause) {
    if (!(cause instanceof Qcow2fsError) || cause.code === 'REFUSED') throw cause;
    const hint = cause.code === 'NOT_FOUND' ? ` (${remedy})` : '';
    throw new Qcow2fsError(cause.code, `${imagePath} needs its ${what}: ${messageOf(cause)}${hint}`, {
      data: { file: imagePath, implied: name },
      cause,
    });
  }
}

function pinForImage(name: string, imagePath: string, what: string, forbiddenFolder: string | undefined): PinnedFile {
  try {
    return pinFile(name, forbiddenFolder);
  } catch (cause) {
    if (!(cause instanceof Qcow2fsError) || cause.code !== 'REFUSED') throw cause;
    throw new Qcow2fsError('REFUSED', `${imagePath}: its ${what} ${cause.message}`, {
      data: { file: imagePath, implied: name },
      cause,
    });
  }
}
