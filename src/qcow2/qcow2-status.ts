/** What the tables of a state say about a range, as QEMU tells it (qcow2_co_block_status, block/qcow2.c). */

import type { BlockStatus, StatusSource } from '../disk/block-status.ts';
import { type ClusterMap, createMapping } from './cluster-map.ts';
import type { Qcow2Metadata } from './open-qcow2.ts';
import type { WorkLimit } from './work-limit.ts';

const LOOKUP_UNITS = 128;
const ENTRY_UNITS = 16;

export class Qcow2Status implements StatusSource {
  readonly sizeBytes: number;
  readonly #map: ClusterMap;
  readonly #file: Qcow2Metadata;
  readonly #limit: WorkLimit;
  readonly #mapping = createMapping();

  constructor(file: Qcow2Metadata, map: ClusterMap, sizeBytes: number, limit: WorkLimit) {
    this.#limit = limit;
    this.#file = file;
    this.#map = map;
    this.sizeBytes = sizeBytes;
  }

  /** Ends at the end of an L2 table at the latest. @throws Qcow2fsError IO; UNSUPPORTED as `WorkLimit.spend`. */
  statusAt(offset: number, maxLengthBytes: number, into: BlockStatus): void {
    const mapping = this.#mapping;
    const { mappedBytes, tableCoverageBytes } = this.#map;
    const isMapped = offset < mappedBytes;
    const reachBytes = isMapped ? tableCoverageBytes - (offset % tableCoverageBytes) : Number.POSITIVE_INFINITY;
    this.#map.lookup(offset, Math.min(maxLengthBytes, this.sizeBytes - offset, reachBytes), mapping);
    const hasTable = isMapped && this.#map.l2TableOffset(offset) !== 0;
    const entryCount = hasTable ? mapping.lengthBytes / this.#file.clusterBytes : 0;
    this.#limit.spend(LOOKUP_UNITS + entryCount * ENTRY_UNITS);
    const { kind } = mapping;
    into.isData = kind === 'normal' || kind === 'compressed';
    into.isZero = kind === 'zero';
    into.isDamaged = kind === 'damaged';
    into.lengthBytes = mapping.lengthBytes;
    into.hostOffset = kind === 'normal' && this.#file.encryption === undefined ? mapping.hostOffset : -1;
    if (hasTable && (kind === 'zero' || (kind === 'unallocated' && this.#file.hasExtendedL2)))
      this.#findPlace(offset, into);
  }

  /** Clusters that are not read may have a place in the file all the same: a run ends where that is another one. */
  #findPlace(offset: number, into: BlockStatus): void {
    const { clusterBytes, encryption } = this.#file;
    const within = offset % clusterBytes;
    const start = this.#map.placeOf(offset);
    let length = clusterBytes - within;
    while (length < into.lengthBytes) {
      const place = this.#map.placeOf(offset + length);
      if (start < 0 ? place >= 0 : place !== start + within + length) break;
      length += clusterBytes;
    }
    into.lengthBytes = Math.min(into.lengthBytes, length);
    into.hostOffset = start < 0 || encryption !== undefined ? -1 : start + within;
  }
}
