/**
 * The current state of an image that somebody writes to, as its bytes are at the moment: what a virtual machine would find
 * after a power failure at best. Tables and data of different moments meet in it, so nothing of it is kept.
 */

import { createSharedBlockMemory, type SharedBlockMemory } from '../common/shared-block-cache.ts';
import type { Disk, Extent } from '../disk/disk.ts';
import type { VolumeKey } from '../luks/volume-key.ts';
import { openQcow2 } from '../qcow2/open-qcow2.ts';
import { Qcow2Image } from '../qcow2/qcow2-image.ts';
import { FileStorage, type OpenFile, statOf } from '../storage/file-storage.ts';
import type { MissingRanges } from '../storage/missing-ranges.ts';
import type { Layer } from './layers.ts';

const SLICE_CACHE_BYTES = 256 * 1024;
/** The least that a cache has. */
const CACHED_CLUSTERS = 8;

export interface LiveSources {
  readonly layer: Layer;
  readonly backing: Disk | undefined;
  readonly key: VolumeKey | undefined;
  readonly missing: MissingRanges | undefined;
}

export class LiveCurrentDisk implements Disk {
  readonly #sources: LiveSources;
  readonly #file: OpenFile;
  #stamps = '';
  #disk: Disk | undefined;
  #epoch = 0;
  #clusterMemory: SharedBlockMemory | undefined;

  constructor(sources: LiveSources) {
    this.#sources = sources;
    this.#file = sources.layer.file;
  }

  get sizeBytes(): number {
    return this.#now().sizeBytes;
  }

  extentAt(offset: number, maxLengthBytes: number, into: Extent): void {
    this.#now().extentAt(offset, maxLengthBytes, into);
  }

  readAt(target: Buffer, targetOffset: number, offset: number, length: number): void {
    this.#now().readAt(target, targetOffset, offset, length);
  }

  allocatedBytes(): number {
    return this.#now().allocatedBytes();
  }

  metadataBytes(): number {
    return this.#now().metadataBytes();
  }

  /** The disk by the tables of now, made anew whenever the file was written to. */
  #now(): Disk {
    const stamps = stampsOf(this.#file);
    if (this.#disk === undefined || stamps !== this.#stamps || this.#file.isBlockDevice) {
      this.#stamps = stamps;
      this.#disk = this.#create();
    }
    return this.#disk;
  }

  #create(): Disk {
    const { layer, backing, key, missing } = this.#sources;
    const storage = new FileStorage({ ...this.#file, sizeBytes: sizeOf(this.#file) });
    const file = openQcow2(storage);
    const { clusterBytes } = file;
    if (this.#clusterMemory?.blockBytes !== clusterBytes) {
      this.#clusterMemory = createSharedBlockMemory(clusterBytes, clusterBytes * CACHED_CLUSTERS);
    }
    const image = new Qcow2Image(
      { ...file, dataStorage: layer.dataFile === undefined ? storage : new FileStorage(layer.dataFile) },
      {
        backing,
        key,
        missing,
        clusterMemory: this.#clusterMemory,
        clusterEpoch: ++this.#epoch,
        sliceCacheBytes: SLICE_CACHE_BYTES,
      },
    );
    return image.currentDisk();
  }
}

function stampsOf(file: OpenFile): string {
  const { size, mtimeMs, ctimeMs } = statOf(file);
  return `${size} ${mtimeMs} ${ctimeMs}`;
}

function sizeOf(file: OpenFile): number {
  return file.isBlockDevice ? file.sizeBytes : statOf(file).size;
}
