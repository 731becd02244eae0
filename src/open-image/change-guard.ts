/** Tells whether what was just read of an image is what the image held for the state when it was opened. */

import { messageOf, Qcow2fsError } from '../errors.ts';
import { SnapshotLiveness } from '../qcow2/snapshot-liveness.ts';
import { Snapshots } from '../qcow2/snapshots.ts';
import { isSettled, isUnchanged, type OpenFile } from '../storage/file-storage.ts';
import type { ImageStatus } from './image-status.ts';
import { filesOfLayers, toQcow2File } from './layers.ts';
import type { OpenImage } from './open-image.ts';
import { lowerBusy } from './require-quiet.ts';

const CURRENT = 0;

export class ChangeGuard {
  readonly #image: OpenImage;
  readonly #status: ImageStatus;
  readonly #imageFile: OpenFile;
  /** Data file and backing files: nothing but their time stamps tells whether they have changed. */
  readonly #otherFiles: readonly OpenFile[];
  readonly #canBeUnchanged: boolean;
  #liveness: SnapshotLiveness | undefined;

  constructor(image: OpenImage, status: ImageStatus) {
    const [imageFile, ...otherFiles] = filesOfLayers(image.layers);
    if (imageFile === undefined) throw new Qcow2fsError('INTERNAL', 'an image without a file');
    this.#image = image;
    this.#status = status;
    this.#imageFile = imageFile;
    this.#otherFiles = otherFiles;
    // A block device has no time stamps that tell of writes, and those of a file tell of all only once its clock went on.
    this.#canBeUnchanged = !imageFile.isBlockDevice && isSettled(imageFile);
  }

  /**
   * True if bytes that were read before this call are the state's; false if the read has to be done again.
   * @param state 0 is the current state, n the snapshot with place n - 1.
   * @throws Qcow2fsError STALE if they are not, or may not be; IO.
   */
  confirm(state: number): boolean {
    this.#requireLowerQuiet('STALE');
    for (const file of this.#otherFiles) if (!isCertainlyUnchanged(file)) throw changed(file);
    const isImageUnchanged = this.#canBeUnchanged && isUnchangedNow(this.#imageFile);
    if (state === CURRENT) {
      this.#requireCurrent(isImageUnchanged);
      return true;
    }
    return isImageUnchanged || this.#confirmSnapshot(state - 1);
  }

  /** @throws Qcow2fsError BUSY if somebody writes to a file below, or to the image and the state is the current one. */
  requireNotBusy(state: number): void {
    this.#requireLowerQuiet('BUSY');
    if (state !== CURRENT || !this.#status.isBusy) return;
    const { path } = this.#imageFile;
    throw new Qcow2fsError('BUSY', busyMessage(path), { data: { file: path } });
  }

  #requireLowerQuiet(code: 'BUSY' | 'STALE'): void {
    const { busyLowerFile } = this.#status;
    if (busyLowerFile === 0) return;
    const { path } = this.#otherFiles[busyLowerFile - 1] ?? this.#imageFile;
    throw lowerBusy(code, path, this.#imageFile.path);
  }

  /** Somebody who writes may keep for himself what the image is to hold: its bytes are no state then. */
  #requireCurrent(isImageUnchanged: boolean): void {
    const { path, isBlockDevice } = this.#imageFile;
    if (this.#status.isBusy) throw new Qcow2fsError('STALE', busyMessage(path), { data: { file: path } });
    if (!isImageUnchanged && !isBlockDevice) throw changed(this.#imageFile);
  }

  #confirmSnapshot(index: number): boolean {
    this.#liveness ??= this.#createLiveness();
    const liveness = this.#liveness.check(index);
    if (liveness === 'gone') {
      const { path } = this.#imageFile;
      throw new Qcow2fsError('STALE', `${path}: the snapshot was deleted, or the image was replaced`, {
        data: { file: path },
      });
    }
    return liveness === 'alive';
  }

  #createLiveness(): SnapshotLiveness {
    const { layers, qcow2, head, snapshotMemory } = this.#image;
    const [layer] = layers;
    if (layer === undefined) throw new Qcow2fsError('INTERNAL', 'an image without a layer');
    return new SnapshotLiveness(toQcow2File(layer, qcow2), Buffer.from(head), new Snapshots(snapshotMemory));
  }
}

function isCertainlyUnchanged(file: OpenFile): boolean {
  return file.isBlockDevice || (isSettled(file) && isUnchangedNow(file));
}

/** A file whose stamps cannot be read (one on a server that forgot it) is not what it was. */
function isUnchangedNow(file: OpenFile): boolean {
  try {
    return isUnchanged(file);
  } catch (cause) {
    throw new Qcow2fsError('STALE', messageOf(cause), { data: { file: file.path }, cause });
  }
}

function busyMessage(path: string): string {
  return `${path} is being written to: its current state cannot be read meanwhile (--live-current reads it all the same)`;
}

function changed({ path }: OpenFile): Qcow2fsError {
  return new Qcow2fsError('STALE', `${path} was changed since its state was opened: open it again`, {
    data: { file: path },
  });
}
