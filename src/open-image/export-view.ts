/** A disk over an image as a qcow2 file of its own: a state, or a state with changes. */

import fs from 'node:fs';
import path from 'node:path';
import { warn } from '../common/logging.ts';
import type { Disk } from '../disk/disk.ts';
import { messageOf, Qcow2fsError } from '../errors.ts';
import { type WriteOptions, writeQcow2 } from '../qcow2/write/write-qcow2.ts';
import { fileIdentity, type OpenFile } from '../storage/file-storage.ts';
import { NewFile } from '../storage/new-file.ts';
import { findProcessName } from '../storage/process-name.ts';
import type { ChainOptions } from './layers.ts';
import type { OpenImage } from './open-image.ts';
import type { StateFiles } from './state-files.ts';

const CURRENT = 0;

/** The image as the backing file of an overlay. */
export interface OverlayBase {
  /** Its absolute path. */
  readonly name: string;
  /** What QEMU reads through a backing file: its current state. */
  readonly current: Disk;
  /** @throws Qcow2fsError STALE if the current state may be another one by now. */
  readonly requireUnchanged: () => void;
}

export interface ViewExport extends Pick<WriteOptions, 'onProgress' | 'signal'> {
  readonly view: Disk;
  /** Of the new file. */
  readonly path: string;
  /** undefined for a flat copy; otherwise of the image that the view is of. */
  readonly base: OverlayBase | undefined;
}

export interface ExportedFile {
  /** Of the disk. */
  readonly sizeBytes: number;
  /** Bytes that the file system has allocated for the file. */
  readonly allocatedBytes: number;
}

/**
 * Writes the view to a new file, which is there whole or not at all.
 * @throws Qcow2fsError as `writeQcow2` and `NewFile`; what `requireUnchanged` throws; the reason of `signal`.
 */
export async function exportView({ view, path, base, onProgress, signal }: ViewExport): Promise<ExportedFile> {
  const file = new NewFile(path);
  try {
    const backing = base && { name: base.name, format: 'qcow2', disk: base.current };
    await writeQcow2(file, view, {
      ...(backing && { backing }),
      ...(signal && { signal }),
      onProgress: (fraction) => {
        // It may take hours to come to the end, where it is too late.
        base?.requireUnchanged();
        onProgress?.(fraction);
      },
    });
    base?.requireUnchanged();
    const { allocatedBytes } = file;
    file.close();
    return { sizeBytes: view.sizeBytes, allocatedBytes };
  } catch (error) {
    discard(file);
    throw error;
  }
}

/**
 * The image as a backing file. `writer`: who writes to it.
 * @throws Qcow2fsError BUSY with a writer; UNSUPPORTED for an encrypted image; USAGE for options that QEMU would know nothing
 * of; REFUSED for a name that ends with a process; NOT_FOUND, IO, DAMAGED.
 */
export function toOverlayBase(
  image: OpenImage,
  files: StateFiles,
  chain: ChainOptions,
  writer: string | undefined,
): OverlayBase {
  const file = image.layers[0]?.file;
  if (file === undefined) throw new Qcow2fsError('INTERNAL', 'an image without a layer');
  refuseOverlay(image, file, chain);
  if (writer !== undefined) {
    throw new Qcow2fsError(
      'BUSY',
      `${file.path} is written to by ${writer}: an overlay is made of what differs from its current state, which cannot be read ` +
        'meanwhile; --flat copies a snapshot all the same',
      { data: { file: file.path } },
    );
  }
  return {
    name: absoluteName(file, lastingName(file)),
    current: files.disk(CURRENT),
    requireUnchanged: () => files.requireReadable(CURRENT),
  };
}

function refuseOverlay({ qcow2 }: OpenImage, { path }: OpenFile, { backingPath, dataFilePath }: ChainOptions): void {
  if (qcow2.encryption !== undefined) {
    throw new Qcow2fsError(
      'UNSUPPORTED',
      `${path} is encrypted, and what an overlay holds would not be: --flat makes a copy, which is not encrypted either`,
      { data: { file: path } },
    );
  }
  if (backingPath === undefined && dataFilePath === undefined) return;
  const option = dataFilePath !== undefined ? '--data-file' : backingPath === null ? '--no-backing' : '--backing';
  throw new Qcow2fsError(
    'USAGE',
    `${option} goes with --flat only: through an overlay, QEMU reads the files that ${path} names itself`,
  );
}

/** The name of the image when the process has ended through which its own name leads. */
function lastingName({ path: name }: OpenFile): string {
  const found = findProcessName(name);
  if (found === undefined) return name;
  if (found.lasting !== undefined) return found.lasting;
  throw new Qcow2fsError(
    'REFUSED',
    `${name} leads through /proc, to a file that other processes would not find by it as a backing file: name the file itself, ` +
      'or use --flat',
    { data: { file: name } },
  );
}

/**
 * Symlinks are resolved in the folders only: relative names in the image start at the folder of the name by which it is
 * known.
 */
function absoluteName({ identity }: OpenFile, name: string): string {
  let absolute: string;
  try {
    absolute = path.join(fs.realpathSync.native(path.dirname(name)), path.basename(name));
    if (fileIdentity(fs.statSync(absolute)) === identity) return absolute;
  } catch (cause) {
    throw new Qcow2fsError('NOT_FOUND', `${name} is not found by its absolute path: ${messageOf(cause)}`, {
      data: { file: name },
      cause,
    });
  }
  throw new Qcow2fsError('STALE', `${absolute} is another file by now: try again`, { data: { file: absolute } });
}

/** What has failed before is what counts. */
function discard(file: NewFile): void {
  try {
    file.discard();
  } catch (error) {
    warn(messageOf(error));
  }
}
