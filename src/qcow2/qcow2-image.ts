/** Makes the disks of an image: one for the current state, one for each snapshot, each with its own L1 table and size. */

import type { SharedBlockMemory } from '../common/shared-block-cache.ts';
import type { Disk } from '../disk/disk.ts';
import { WindowDisk } from '../disk/window-disk.ts';
import { Qcow2fsError } from '../errors.ts';
import type { VolumeKey } from '../luks/volume-key.ts';
import type { MissingRanges } from '../storage/missing-ranges.ts';
import { TableCounts } from './allocation.ts';
import { ClusterMap, tableCoverageBytes } from './cluster-map.ts';
import { CompressedClusters } from './compressed-clusters.ts';
import { EncryptedClusters } from './encrypted-clusters.ts';
import type { Qcow2File, Qcow2Metadata } from './open-qcow2.ts';
import { Qcow2Disk, type Qcow2Layer } from './qcow2-disk.ts';
import { SliceCache } from './slice-cache.ts';
import { l1TableProblem, type Snapshot } from './snapshots.ts';
import { StoredClusters } from './stored-clusters.ts';

export interface Qcow2Resources {
  /** What shows through where the image has no cluster. */
  readonly backing: Disk | undefined;
  /** What the clusters of an encrypted image are decrypted with. */
  readonly key?: VolumeKey | undefined;
  /** Which layer it is, from 0: layers may share the memory for clusters. */
  readonly depth?: number;
  /** Where inflated clusters are kept. */
  readonly clusterMemory: SharedBlockMemory;
  /** Clusters that were kept there in another epoch may be others' by now. */
  readonly clusterEpoch?: number;
  /** Ceiling for cached L1 and L2 slices. */
  readonly sliceCacheBytes: number;
  /** If what lies past the end of the file is to be zeros, as in QEMU: where it is counted. */
  readonly missing?: MissingRanges | undefined;
}

export class Qcow2Image {
  readonly #layer: Qcow2Layer;
  readonly #slices: SliceCache;

  /** @throws Qcow2fsError LOCKED for an encrypted image without a key. */
  constructor(file: Qcow2File, resources: Qcow2Resources) {
    const { missing } = resources;
    this.#slices = new SliceCache(file.storage, file.clusterBytes, resources.sliceCacheBytes, missing);
    const stored = new StoredClusters(file, missing);
    this.#layer = {
      file,
      stored,
      compressed: new CompressedClusters(
        file,
        resources.clusterMemory,
        resources.depth ?? 0,
        resources.clusterEpoch ?? 0,
      ),
      encrypted: EncryptedClusters.of(file, stored, resources.key),
      backing: resources.backing,
      counts: new TableCounts(),
    };
  }

  /** @throws Qcow2fsError DAMAGED if the active L1 table cannot be used. */
  currentDisk(): Disk {
    const { file } = this.#layer;
    requireActiveL1Table(file);
    return this.#disk(file.header.l1TableOffset, file.header.l1Size, file.sizeBytes);
  }

  snapshotDisk(snapshot: Snapshot): Disk {
    return this.#disk(snapshot.entry.l1TableOffset, snapshot.entry.l1Size, snapshot.sizeBytes);
  }

  /**
   * The state of the virtual machine (its memory and devices, as `savevm` writes them): it lies in the snapshot's own
   * tables, behind what the L2 tables of its disk map (qcow2_vm_state_offset). The disk has `vmStateBytes` bytes.
   */
  vmStateDisk({ entry }: Snapshot): Disk {
    const { file } = this.#layer;
    const coverage = tableCoverageBytes(file);
    const start = Math.ceil((entry.diskSizeBytes ?? file.header.size) / coverage) * coverage;
    const whole = this.#disk(entry.l1TableOffset, entry.l1Size, start + entry.vmStateBytes, {
      ...this.#layer,
      backing: undefined,
    });
    return new WindowDisk(whole, start, entry.vmStateBytes);
  }

  #disk(l1Offset: number, l1Size: number, sizeBytes: number, layer = this.#layer): Disk {
    return new Qcow2Disk(layer, new ClusterMap(this.#layer.file, this.#slices, l1Offset, l1Size), sizeBytes);
  }
}

/** @throws Qcow2fsError DAMAGED if the current state cannot be read at all. */
export function requireActiveL1Table(file: Qcow2File): void {
  const problem = activeL1TableProblem(file);
  if (problem === undefined) return;
  throw new Qcow2fsError('DAMAGED', `${file.storage.name}: ${problem}`, { data: { file: file.storage.name } });
}

/**
 * Why the active L1 table cannot be used, or undefined. The one of a snapshot may be shorter than its disk, this one
 * may not (qcow2_do_open: "L1 table is too small").
 */
export function activeL1TableProblem(file: Qcow2Metadata): string | undefined {
  const { l1Size, l1TableOffset } = file.header;
  const needed = Math.ceil(file.sizeBytes / tableCoverageBytes(file));
  if (l1Size < needed) return `header field l1_size is ${l1Size}, but the virtual size needs ${needed} L1 entries`;
  const problem = l1TableProblem(file, l1Size, l1TableOffset);
  return problem === undefined ? undefined : `the current state cannot be read: ${problem}`;
}
