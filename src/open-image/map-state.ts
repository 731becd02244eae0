/** What is stored of a state, and where: the extents that `qemu-img map` gives, of any state. */

import { type BlockStatus, createBlockStatus, type StatusSource } from '../disk/block-status.ts';
import { Qcow2fsError } from '../errors.ts';
import { ClusterMap } from '../qcow2/cluster-map.ts';
import type { Qcow2Metadata } from '../qcow2/open-qcow2.ts';
import { hasPreallocatedMetadata } from '../qcow2/preallocation.ts';
import { requireActiveL1Table } from '../qcow2/qcow2-image.ts';
import { Qcow2Status } from '../qcow2/qcow2-status.ts';
import { SliceCache } from '../qcow2/slice-cache.ts';
import { stateTablesOf } from '../qcow2/states/state-tables.ts';
import { WorkLimit } from '../qcow2/work-limit.ts';
import { RawStatus } from '../raw/raw-status.ts';
import { canTellHoles, type FileRange, rangeAt } from '../storage/file-holes.ts';
import { findState } from './find-state.ts';
import {
  type ChainOptions,
  closeLayers,
  isBackingLeftOut,
  type Layer,
  openBackingChain,
  refuseUnsupportedLayers,
  toQcow2File,
} from './layers.ts';
import { type MapEntry, MapList } from './map-list.ts';
import { type ImageHeader, snapshotsOf } from './open-image.ts';
import { requireLowerQuiet, requireQuiet, requireUnchanged } from './require-quiet.ts';
import { withSteadyImage } from './steady-image.ts';

const CURRENT = 0;
const SLICE_CACHE_BYTES = 4 * 1024 * 1024;

export interface MapOptions {
  readonly chain: ChainOptions;
  /** Who writes to the file whose descriptor this is. */
  readonly writerOf: (fd: number) => string | undefined;
}

export interface StateMap {
  readonly entries: MapList;
  /** Nothing is damaged; what is counts as data that has no place. */
  readonly isComplete: boolean;
  readonly problems: readonly string[];
}

/**
 * @param state as `findState` takes it
 * @throws Qcow2fsError as `withSteadyImage`, `findState`, `openBackingChain`, `requireLowerQuiet` and `requireQuiet`.
 */
export function mapState(imagePath: string, state: string, { chain, writerOf }: MapOptions): StateMap {
  return withSteadyImage(imagePath, (header, file) => {
    const number = findState(imagePath, snapshotsOf(header), state);
    if (number === CURRENT) requireActiveL1Table(file);
    const layers: Layer[] = [...header.layers];
    try {
      refuseUnsupportedLayers(layers.slice(0, 1));
      openBackingChain(layers, chain);
      refuseUnsupportedLayers(layers.slice(1));
      requireLowerQuiet(layers, writerOf);
      if (number === CURRENT) requireQuiet(layers[0], writerOf);
      const map = new LayerWalk(sourcesOf(layers, header, number), isBackingLeftOut(layers)).walk();
      // The liveness of a snapshot tells what its own file may have become.
      requireUnchanged(number === CURRENT ? layers : layers.slice(1));
      return { ...map, problems: [...header.problems, ...map.problems, ...holeProblems(layers)] };
    } finally {
      closeLayers(layers.slice(1));
    }
  });
}

/** Without holes, all of a raw file is told as data, which is right but not what QEMU tells. */
function holeProblems(layers: readonly Layer[]): string[] {
  const raw = layers.find(({ qcow2 }) => qcow2 === undefined);
  if (raw === undefined || canTellHoles()) return [];
  return [`the holes of ${raw.file.path} are told as data: finding them takes the npm package koffi`];
}

function sourcesOf(layers: readonly Layer[], header: ImageHeader, state: number): StatusSource[] {
  return layers.map((layer, depth) => {
    const { qcow2 } = layer;
    if (qcow2 === undefined) return new RawStatus(layer.file);
    return qcow2Source(layer, qcow2, depth === 0 ? header : undefined, state);
  });
}

function qcow2Source(layer: Layer, qcow2: Qcow2Metadata, header: ImageHeader | undefined, state: number): StatusSource {
  const file = toQcow2File(layer, qcow2);
  const tables = stateTablesOf(file, header === undefined ? [] : snapshotsOf(header));
  const table = tables.at(header === undefined ? CURRENT : state);
  if (table === undefined) throw new Qcow2fsError('INTERNAL', `there is no state ${state}`);
  const slices = new SliceCache(file.storage, file.clusterBytes, SLICE_CACHE_BYTES);
  const map = new ClusterMap(file, slices, table.l1Offset, table.l1Size);
  const limit = new WorkLimit(layer.file.allocatedBytes || layer.file.sizeBytes, 'what is stored of the state');
  const source = new Qcow2Status(file, map, table.diskBytes, limit);
  if (!hasPreallocatedMetadata(file, layer.file.allocatedBytes)) return source;
  return new SparseFileStatus(source, layer);
}

/** Stored clusters that are holes of the image file: QEMU tells of them both that they are data and that they are zeros. */
class SparseFileStatus implements StatusSource {
  readonly sizeBytes: number;
  readonly #source: StatusSource;
  readonly #layer: Layer;
  readonly #range: FileRange = { isHole: false, end: 0 };

  constructor(source: StatusSource, layer: Layer) {
    this.#source = source;
    this.#layer = layer;
    this.sizeBytes = source.sizeBytes;
  }

  statusAt(offset: number, maxLengthBytes: number, into: BlockStatus): void {
    this.#source.statusAt(offset, maxLengthBytes, into);
    if (!into.isData || into.hostOffset < 0) return;
    const { file } = this.#layer;
    if (into.hostOffset >= file.sizeBytes) {
      into.isZero = true;
      return;
    }
    rangeAt(file, into.hostOffset, this.#range);
    into.isZero = this.#range.isHole;
    into.lengthBytes = Math.min(into.lengthBytes, this.#range.end - into.hostOffset);
  }
}

class LayerWalk {
  readonly #sources: readonly StatusSource[];
  readonly #isBackingLeftOut: boolean;
  readonly #status = createBlockStatus();
  readonly #entries = new MapList();
  #damagedBytes = 0;

  constructor(sources: readonly StatusSource[], isBackingLeftOut: boolean) {
    this.#sources = sources;
    this.#isBackingLeftOut = isBackingLeftOut;
  }

  walk(): StateMap {
    const [top] = this.#sources;
    const entry: MapEntry = { start: 0, length: 0, depth: 0, present: false, zero: false, data: false, offset: -1 };
    // As qemu-img does for a disk without bytes.
    if (top?.sizeBytes === 0) this.#entries.add(entry);
    for (let at = 0; top !== undefined && at < top.sizeBytes; at += entry.length) {
      this.#describe(at, top.sizeBytes - at, entry);
      if (entry.length <= 0) throw new Qcow2fsError('INTERNAL', `nothing is told of offset ${at}`);
      this.#entries.add(entry);
    }
    return { entries: this.#entries, isComplete: this.#damagedBytes === 0, problems: this.#problems() };
  }

  /** As get_block_status() of qemu-img: from layer to layer, until one has something there or is the last. */
  #describe(at: number, maxLength: number, into: MapEntry): void {
    const status = this.#status;
    let length = maxLength;
    for (let depth = 0; ; depth++) {
      const source = this.#sources[depth];
      if (source === undefined) break;
      source.statusAt(at, Math.min(length, source.sizeBytes - at), status);
      length = status.lengthBytes;
      const below = this.#sources[depth + 1];
      const isStored = status.isData || status.isZero;
      const isLast =
        below === undefined ? !(this.#isBackingLeftOut && depth === this.#sources.length - 1) : at >= below.sizeBytes;
      into.depth = depth;
      if (isStored || status.isDamaged || isLast) {
        into.data = status.isData || status.isDamaged;
        into.zero = status.isZero || (!isStored && !status.isDamaged);
        into.present = isStored || status.isDamaged;
        into.offset = status.hostOffset;
        if (status.isDamaged) this.#damagedBytes += length;
        break;
      }
      if (below !== undefined) continue;
      // What is not known to be anything: the file that has it was left out.
      Object.assign(into, { depth: depth + 1, data: false, zero: false, present: false, offset: -1 });
      break;
    }
    into.start = at;
    into.length = length;
  }

  #problems(): string[] {
    if (this.#damagedBytes === 0) return [];
    return [
      `the tables of ${this.#damagedBytes} bytes are damaged: they are told as data without an offset, and cannot be read`,
    ];
  }
}
