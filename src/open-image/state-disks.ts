/** The disks of an open image: one per state, made when they are asked for. */

import type { Disk } from '../disk/disk.ts';
import { MissingDisk } from '../disk/missing-disk.ts';
import { Qcow2fsError } from '../errors.ts';
import { Qcow2Image } from '../qcow2/qcow2-image.ts';
import type { Snapshot, Snapshots } from '../qcow2/snapshots.ts';
import { RawDisk } from '../raw/raw-disk.ts';
import { FileStorage } from '../storage/file-storage.ts';
import type { MissingRanges } from '../storage/missing-ranges.ts';
import { isBackingLeftOut, type Layer, toQcow2File } from './layers.ts';
import { LiveCurrentDisk } from './live-current.ts';
import { type OpenImage, snapshotsOf } from './open-image.ts';

/** For L1 and L2 slices of one thread, over all layers; a layer gets at least `MIN_SLICE_CACHE_BYTES`. */
const SLICE_CACHE_BYTES = 16 * 1024 * 1024;
const MIN_SLICE_CACHE_BYTES = 256 * 1024;

export class StateDisks {
  readonly #image: OpenImage;
  readonly #snapshots: Snapshots;
  readonly #missing: MissingRanges | undefined;
  readonly #backing: Disk | undefined;
  readonly #top: Qcow2Image;
  readonly #disks: (Disk | undefined)[] = [];
  readonly #vmStates: (Disk | undefined)[] = [];

  /**
   * Builds the chain from the bottom up. With `missing`, what lies past the end of a qcow2 or data file is zeros, as in
   * QEMU, and counted there; without it, reading that is an error.
   * @throws Qcow2fsError DAMAGED if the state of a backing file cannot be read.
   */
  constructor(image: OpenImage, missing?: MissingRanges) {
    this.#image = image;
    this.#snapshots = snapshotsOf(image);
    this.#missing = missing;
    const { path } = image.layers.at(-1)?.file ?? { path: '' };
    let below: Disk | undefined = isBackingLeftOut(image.layers) ? new MissingDisk(path) : undefined;
    for (let depth = image.layers.length - 1; depth > 0; depth--) {
      const layer = image.layers[depth];
      if (layer === undefined) continue;
      below =
        layer.qcow2 === undefined ? new RawDisk(new FileStorage(layer.file)) : this.#reader(depth, below).currentDisk();
    }
    this.#backing = below;
    this.#top = this.#reader(0, below);
  }

  /**
   * The disk of a state: 0 is the current state, n is the snapshot with place n - 1.
   * @throws Qcow2fsError DAMAGED, NOT_FOUND.
   */
  disk(state: number): Disk {
    let disk = this.#disks[state];
    if (disk === undefined) {
      disk = this.createDisk(state);
      this.#disks[state] = disk;
    }
    return disk;
  }

  /** As `disk`, but one that is not kept here: for who needs each of many once. */
  createDisk(state: number): Disk {
    return (
      this.#disks[state] ?? (state === 0 ? this.#top.currentDisk() : this.#top.snapshotDisk(this.#snapshot(state)))
    );
  }

  /** The current state as the file has it at the moment of each read, though somebody writes to it. */
  liveCurrent(): Disk {
    const [layer] = this.#image.layers;
    if (layer === undefined) throw new Qcow2fsError('INTERNAL', 'an image without a layer');
    return new LiveCurrentDisk({ layer, backing: this.#backing, key: this.#image.keys[0], missing: this.#missing });
  }

  /**
   * The VM state of a snapshot as a disk.
   * @throws Qcow2fsError NOT_FOUND.
   */
  vmState(state: number): Disk {
    let disk = this.#vmStates[state];
    if (disk === undefined) {
      disk = this.#top.vmStateDisk(this.#snapshot(state));
      this.#vmStates[state] = disk;
    }
    return disk;
  }

  #snapshot(state: number): Snapshot {
    const snapshot = this.#snapshots.at(state - 1);
    if (snapshot === undefined) throw new Qcow2fsError('NOT_FOUND', `there is no snapshot for state ${state}`);
    return snapshot;
  }

  #reader(depth: number, backing: Disk | undefined): Qcow2Image {
    const { layers, clusterMemories, clusterEpoch, keys } = this.#image;
    const layer: Layer | undefined = layers[depth];
    const clusterMemory = clusterMemories[depth];
    if (layer?.qcow2 === undefined || clusterMemory === undefined) {
      throw new Qcow2fsError('INTERNAL', `layer ${depth} is not a qcow2 file`);
    }
    const sliceCacheBytes = Math.max(MIN_SLICE_CACHE_BYTES, Math.floor(SLICE_CACHE_BYTES / layers.length));
    return new Qcow2Image(toQcow2File(layer, layer.qcow2), {
      backing,
      depth,
      key: keys[depth],
      clusterMemory,
      clusterEpoch,
      sliceCacheBytes,
      missing: this.#missing,
    });
  }
}
