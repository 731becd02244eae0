/** One state of a qcow2 image as a Disk: the current state or a snapshot, over a backing disk if there is one. */

import type { Disk, Extent } from '../disk/disk.ts';
import { MAX_WALKED_METADATA_BYTES } from '../disk/walk.ts';
import { Qcow2fsError } from '../errors.ts';
import { countAllocatedBytes, countTableBytes, type TableCounts } from './allocation.ts';
import { type ClusterMap, createMapping, type Mapping } from './cluster-map.ts';
import type { CompressedClusters } from './compressed-clusters.ts';
import type { EncryptedClusters } from './encrypted-clusters.ts';
import type { Qcow2File } from './open-qcow2.ts';
import type { StoredClusters } from './stored-clusters.ts';

/** What all states of one file share. */
export interface Qcow2Layer {
  readonly file: Qcow2File;
  readonly stored: StoredClusters;
  readonly compressed: CompressedClusters;
  /** undefined for a file that is not encrypted. */
  readonly encrypted: EncryptedClusters | undefined;
  readonly backing: Disk | undefined;
  readonly counts: TableCounts;
}

export class Qcow2Disk implements Disk {
  readonly sizeBytes: number;
  readonly #file: Qcow2File;
  readonly #stored: StoredClusters;
  readonly #map: ClusterMap;
  readonly #compressed: CompressedClusters;
  readonly #encrypted: EncryptedClusters | undefined;
  readonly #backing: Disk | undefined;
  readonly #counts: TableCounts;
  readonly #mapping = createMapping();
  #allocatedBytes: number | undefined;
  #metadataBytes: number | undefined;
  /** The range that was found unallocated last: a backing disk may tell it in many extents. */
  #unallocatedStart = 0;
  #unallocatedEnd = 0;
  #mayGoOn = false;

  /** `map` walks the state's own L1 table, and `sizeBytes` is the state's own virtual size. */
  constructor(layer: Qcow2Layer, map: ClusterMap, sizeBytes: number) {
    this.#file = layer.file;
    this.#stored = layer.stored;
    this.#map = map;
    this.#compressed = layer.compressed;
    this.#encrypted = layer.encrypted;
    this.#backing = layer.backing;
    this.#counts = layer.counts;
    this.sizeBytes = sizeBytes;
  }

  extentAt(offset: number, maxLengthBytes: number, into: Extent): void {
    const mapping = this.#mapping;
    const length = Math.min(maxLengthBytes, this.sizeBytes - offset);
    const rest = this.#unallocatedEnd - offset;
    if (offset >= this.#unallocatedStart && (length <= rest || (rest > 0 && !this.#mayGoOn))) {
      this.#extentBelow(offset, Math.min(length, rest), into);
      return;
    }
    this.#map.lookup(offset, length, mapping);
    if (mapping.kind === 'unallocated') {
      this.#unallocatedStart = offset;
      this.#unallocatedEnd = offset + mapping.lengthBytes;
      this.#mayGoOn = mapping.lengthBytes === length;
      this.#extentBelow(offset, mapping.lengthBytes, into);
      return;
    }
    into.kind = mapping.kind === 'normal' ? 'data' : mapping.kind;
    into.lengthBytes = mapping.lengthBytes;
    into.hostOffset = mapping.kind === 'normal' && this.#encrypted === undefined ? mapping.hostOffset : -1;
    into.depth = 0;
  }

  readAt(target: Buffer, targetOffset: number, offset: number, length: number): void {
    const mapping = this.#mapping;
    let done = 0;
    while (done < length) {
      this.#map.lookup(offset + done, length - done, mapping);
      this.#readMapping(mapping, target, targetOffset + done, offset + done);
      done += mapping.lengthBytes;
    }
  }

  /** Exact while the tables of the state are few enough to be walked; see `countAllocatedBytes` for the rest. */
  allocatedBytes(): number {
    this.#allocatedBytes ??= countAllocatedBytes(this, this.#map, this.#file, this.#backing, this.#counts);
    return this.#allocatedBytes;
  }

  metadataBytes(): number {
    if (this.#metadataBytes === undefined) {
      const below = this.#backing === undefined ? 0 : this.#backing.metadataBytes();
      // So that a chain of long L1 tables is not read to its end, only to be found too long.
      const isTooMuch = below > MAX_WALKED_METADATA_BYTES;
      this.#metadataBytes = below + (isTooMuch ? 0 : countTableBytes(this.#map, this.#file, this.sizeBytes));
    }
    return this.#metadataBytes;
  }

  #readMapping(mapping: Mapping, target: Buffer, targetOffset: number, offset: number): void {
    const { lengthBytes, hostOffset } = mapping;
    switch (mapping.kind) {
      case 'normal':
        if (this.#encrypted !== undefined) this.#encrypted.read(hostOffset, offset, lengthBytes, target, targetOffset);
        else this.#stored.read(target, targetOffset, lengthBytes, hostOffset, 'a cluster');
        return;
      case 'zero':
        target.fill(0, targetOffset, targetOffset + lengthBytes);
        return;
      case 'compressed': {
        const within = offset % this.#file.clusterBytes;
        this.#compressed.read(hostOffset, mapping.storedBytes, within, lengthBytes, target, targetOffset);
        return;
      }
      case 'unallocated':
        this.#readBelow(target, targetOffset, offset, lengthBytes);
        return;
      case 'damaged':
        throw mapping.problem?.() ?? new Qcow2fsError('INTERNAL', 'a damaged mapping without its problem');
    }
  }

  /** Bytes of the backing disk, zeros behind its end. */
  #readBelow(target: Buffer, targetOffset: number, offset: number, length: number): void {
    const backing = this.#backing;
    const below = backing === undefined ? 0 : Math.max(0, Math.min(length, backing.sizeBytes - offset));
    if (backing !== undefined && below > 0) backing.readAt(target, targetOffset, offset, below);
    if (below < length) target.fill(0, targetOffset + below, targetOffset + length);
  }

  #extentBelow(offset: number, lengthBytes: number, into: Extent): void {
    const backing = this.#backing;
    if (backing !== undefined && offset < backing.sizeBytes) {
      backing.extentAt(offset, Math.min(lengthBytes, backing.sizeBytes - offset), into);
      into.depth += 1;
      return;
    }
    into.kind = 'hole';
    into.lengthBytes = lengthBytes;
    into.hostOffset = -1;
    into.depth = 0;
  }
}
