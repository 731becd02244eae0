/** The disk of a state with a delta over it, and the windows on it: files that can be written. */

import type { Disk, Extent } from '../disk/disk.ts';
import { seekData, seekHole } from '../disk/walk.ts';
import { requireWritable, type WritableDisk } from '../disk/writable-disk.ts';
import type { Delta } from '../overlay/delta.ts';
import { OverlayDisk } from '../overlay/overlay-disk.ts';
import { findVolumes, type VolumeList } from '../volumes/find-volumes.ts';
import type { StateFiles } from './state-files.ts';

/** A window on the disk, or all of it. */
export class ScratchFile {
  readonly #window: Disk;
  readonly #overlay: OverlayDisk;

  constructor(window: Disk, overlay: OverlayDisk) {
    this.#window = window;
    this.#overlay = overlay;
  }

  get sizeBytes(): number {
    return this.#window.sizeBytes;
  }

  /** Of the whole disk: what lies in a window may have been written through another one. */
  get writtenAtMs(): number {
    return this.#overlay.writtenAtMs;
  }

  readAt(target: Buffer, targetOffset: number, offset: number, length: number): void {
    this.#window.readAt(target, targetOffset, offset, length);
  }

  seekData(offset: number): number | undefined {
    return seekData(this.#window, offset);
  }

  seekHole(offset: number): number {
    return seekHole(this.#window, offset);
  }

  allocatedBytes(): number {
    return this.#window.allocatedBytes();
  }

  writeAt(source: Buffer, sourceOffset: number, offset: number, length: number): void {
    requireWritable(this.#window).writeAt(source, sourceOffset, offset, length);
  }

  discardAt(offset: number, length: number): void {
    requireWritable(this.#window).discardAt(offset, length);
  }

  sync(): void {
    this.#overlay.sync();
  }
}

export class ScratchFiles {
  readonly disk: ScratchFile;
  readonly #base: Disk;
  readonly #overlay: OverlayDisk;
  #volumes: { readonly list: VolumeList; readonly files: readonly ScratchFile[] } | undefined;

  /** States are numbered as in `StateDisks`. @throws Qcow2fsError as `StateFiles.disk`. */
  constructor(files: StateFiles, state: number, delta: Delta) {
    this.#base = files.disk(state);
    this.#overlay = new OverlayDisk(this.#base, delta, () => files.requireReadable(state));
    this.disk = new ScratchFile(this.#overlay, this.#overlay);
  }

  /** All of it as a disk. */
  get view(): Disk {
    return this.#overlay;
  }

  /**
   * Those that the state has in the image, whatever was written since: every thread has to find the same ones.
   * @throws Qcow2fsError as `StateFiles.volumes`.
   */
  volumes(): { readonly list: VolumeList; readonly files: readonly ScratchFile[] } {
    if (this.#volumes === undefined) {
      const redirected = new RedirectedDisk(this.#base);
      const list = findVolumes(redirected);
      redirected.disk = this.#overlay;
      this.#volumes = { list, files: list.volumes.map(({ disk }) => new ScratchFile(disk, this.#overlay)) };
    }
    return this.#volumes;
  }
}

/** A disk that can be exchanged below the windows that were found on it. */
class RedirectedDisk implements WritableDisk {
  disk: Disk;

  constructor(disk: Disk) {
    this.disk = disk;
  }

  get sizeBytes(): number {
    return this.disk.sizeBytes;
  }

  extentAt(offset: number, maxLengthBytes: number, into: Extent): void {
    this.disk.extentAt(offset, maxLengthBytes, into);
  }

  readAt(target: Buffer, targetOffset: number, offset: number, length: number): void {
    this.disk.readAt(target, targetOffset, offset, length);
  }

  allocatedBytes(): number {
    return this.disk.allocatedBytes();
  }

  metadataBytes(): number {
    return this.disk.metadataBytes();
  }

  writeAt(source: Buffer, sourceOffset: number, offset: number, length: number): void {
    requireWritable(this.disk).writeAt(source, sourceOffset, offset, length);
  }

  discardAt(offset: number, length: number): void {
    requireWritable(this.disk).discardAt(offset, length);
  }

  sync(): void {
    requireWritable(this.disk).sync();
  }
}
