/** A state of an image as a qcow2 file of its own. */

import fs from 'node:fs';
import type { Disk } from '../disk/disk.ts';
import { messageOf, Qcow2fsError } from '../errors.ts';
import { Delta } from '../overlay/delta.ts';
import { closeDelta, openKeptDelta } from '../overlay/open-delta.ts';
import { type ExportedFile, exportView, toOverlayBase, type ViewExport } from './export-view.ts';
import { findState, stateIdOf } from './find-state.ts';
import { ImageStatus } from './image-status.ts';
import { imageFileOf } from './layers.ts';
import { closeImage, type OpenImage, snapshotsOf } from './open-image.ts';
import { openUnlockedImage, type UnlockOptions } from './open-unlocked.ts';
import { requireLowerQuiet, requireQuiet } from './require-quiet.ts';
import { ScratchFiles } from './scratch-files.ts';
import { StateFiles } from './state-files.ts';
import { stateIdentity } from './state-identity.ts';

const CURRENT = 0;

export interface ExportOptions extends UnlockOptions, Omit<ViewExport, 'view' | 'base'> {
  /** As `findState` takes it. */
  readonly state: string;
  /** The changes of a scratch view that was kept: those are exported too. */
  readonly deltaPath?: string | undefined;
  /** All of the disk, in place of what differs from the current state of the image. */
  readonly isFlat: boolean;
  /** Who writes to the file whose descriptor this is. */
  readonly writerOf: (fd: number) => string | undefined;
}

export interface ExportedState extends ExportedFile {
  /** The absolute path of the image, if that is the backing file. */
  readonly backingName: string | undefined;
  /** True if what is in the file came from an encrypted one, also in part. */
  readonly wasEncrypted: boolean;
  /** Damage of the image itself. */
  readonly problems: readonly string[];
}

/** @throws Qcow2fsError as `openUnlockedImage`, `findState`, `openKeptDelta`, `toOverlayBase` and `exportView`. */
export async function exportState(imagePath: string, options: ExportOptions): Promise<ExportedState> {
  const image = await openUnlockedImage(imagePath, options);
  try {
    const state = findState(imagePath, snapshotsOf(image), options.state);
    const files = new StateFiles(image, new ImageStatus(ImageStatus.createMemory()));
    requireLowerQuiet(image.layers, options.writerOf);
    const writer = options.writerOf(imageFileOf(image.layers).fd);
    if (state === CURRENT) requireQuiet(image.layers[0], () => writer);
    const base = options.isFlat ? undefined : toOverlayBase(image, files, options.chain, writer);
    const { path, onProgress, signal, deltaPath } = options;
    const exported = await withView(image, files, state, deltaPath, (view) =>
      exportView({ path, base, view, ...(onProgress && { onProgress }), ...(signal && { signal }) }),
    );
    return {
      ...exported,
      backingName: base?.name,
      wasEncrypted: image.keys.some((key) => key !== undefined),
      problems: image.problems,
    };
  } finally {
    closeImage(image);
  }
}

async function withView<Result>(
  image: OpenImage,
  files: StateFiles,
  state: number,
  deltaPath: string | undefined,
  use: (view: Disk) => Promise<Result>,
): Promise<Result> {
  const disk = files.disk(state);
  if (deltaPath === undefined) return use(disk);
  const imagePath = imageFileOf(image.layers).path;
  requireThere(deltaPath);
  const delta = await openKeptDelta(deltaPath, {
    ...{ imagePath, sizeBytes: disk.sizeBytes, maxBytes: Number.MAX_SAFE_INTEGER },
    ...{ stateText: stateIdOf(snapshotsOf(image).at(state - 1)?.entry), identity: stateIdentity(image, state) },
  });
  try {
    return await use(new ScratchFiles(files, state, new Delta(delta)).view);
  } finally {
    closeDelta(delta);
  }
}

/** A delta that is not there would be made. */
function requireThere(deltaPath: string): void {
  const data = { file: deltaPath };
  try {
    if (fs.statSync(deltaPath, { throwIfNoEntry: false }) !== undefined) return;
  } catch (cause) {
    throw new Qcow2fsError('IO', `${deltaPath}: the delta cannot be opened: ${messageOf(cause)}`, { data, cause });
  }
  throw new Qcow2fsError('NOT_FOUND', `${deltaPath}: no such file`, { data });
}
