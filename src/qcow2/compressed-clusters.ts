/** Reads compressed clusters through a cache, so that a sequential reader inflates each of them once. */

import { noteComputation } from '../common/computation.ts';
import { countGarbage } from '../common/external-garbage.ts';
import { SharedBlockCache, type SharedBlockMemory } from '../common/shared-block-cache.ts';
import { messageOf, Qcow2fsError } from '../errors.ts';
import { pastEnd } from '../storage/storage.ts';
import { type Decompress, decompressZstdCluster, inflateCluster } from './decompress.ts';
import type { Qcow2File } from './open-qcow2.ts';
import { QCOW2_COMPRESSION_TYPE_ZSTD } from './wire/header.ts';
import { COMPRESSED_SECTOR_BYTES } from './wire/table-entries.ts';

/** Above the length of compressed data, which is 8192 sectors of 512 bytes at most. */
const DEPTH_TAG_SHIFT = 23;

/** Of a thread, for the data of one cluster, 4 MiB at most: new memory for each piles up before it is collected. */
let scratch = Buffer.alloc(0);

export class CompressedClusters {
  readonly #file: Qcow2File;
  readonly #depthTag: number;
  readonly #cache: SharedBlockCache;
  readonly #decompress: Decompress;

  /** `depth` and `epoch` tell the clusters of this layer from others that share the memory. */
  constructor(file: Qcow2File, memory: SharedBlockMemory, depth: number, epoch: number) {
    this.#file = file;
    this.#depthTag = depth << DEPTH_TAG_SHIFT;
    this.#cache = new SharedBlockCache(memory, epoch);
    this.#decompress =
      file.header.compressionType === QCOW2_COMPRESSION_TYPE_ZSTD ? decompressZstdCluster : inflateCluster;
  }

  /**
   * Reads `length` bytes from byte `within` of the cluster whose compressed data starts at `hostOffset` and has
   * `storedBytes` bytes at most.
   * What is missing of the data is never taken for zeros: with them, an inflater makes garbage of the cluster.
   * @throws Qcow2fsError PAST_END or DAMAGED when the data does not inflate to a cluster; UNSUPPORTED when nothing here can
   * decompress it; IO.
   */
  read(
    hostOffset: number,
    storedBytes: number,
    within: number,
    length: number,
    target: Buffer,
    targetOffset: number,
  ): void {
    const tag = this.#depthTag | storedBytes;
    this.#cache.read(hostOffset, tag, within, length, target, targetOffset, () =>
      this.#inflate(hostOffset, storedBytes),
    );
  }

  #inflate(hostOffset: number, storedBytes: number): Buffer {
    const { storage, clusterBytes } = this.#file;
    const what = 'a compressed cluster';
    if (scratch.length < storedBytes) scratch = Buffer.allocUnsafeSlow(storedBytes);
    const stored = scratch;
    // The last sector of the last cluster may overshoot the end of a healthy file, as `storedBytes` counts whole ones.
    const count = storage.readUpTo(stored, 0, storedBytes, hostOffset);
    const isCut = count <= Math.max(0, storedBytes - COMPRESSED_SECTOR_BYTES);
    noteComputation();
    countGarbage(clusterBytes);
    try {
      return this.#decompress(stored.subarray(0, count), clusterBytes);
    } catch (cause) {
      if (cause instanceof Qcow2fsError && cause.code !== 'DAMAGED') {
        throw new Qcow2fsError(cause.code, `${storage.name}: ${cause.message}`, {
          data: { file: storage.name },
          cause,
        });
      }
      if (isCut) throw pastEnd(storage, hostOffset, storedBytes, what);
      throw new Qcow2fsError(
        'DAMAGED',
        `${storage.name}: the compressed cluster at offset ${hostOffset} cannot be decompressed: ${messageOf(cause)}`,
        { data: { file: storage.name, hostOffset }, cause },
      );
    }
  }
}
