/**
 * Writes an image with QEMU's tools in a random but seeded way: data, zeros, discards and compressed clusters, and
 * between them snapshots that are created, deleted and applied, and changes of the disk size.
 */

import fs from 'node:fs';
import path from 'node:path';
import { runCommand } from '../support/run-command.ts';
import type { BackingCase, ImageCase } from './matrix.ts';
import {
  applySnapshot,
  createImage,
  createSnapshot,
  deleteSnapshot,
  resizeImage,
  runQemuIo,
  runQemuIoAndAbort,
} from './qemu.ts';
import { Random } from './random.ts';

const ROUND_COUNT = 7;
const OPERATIONS_PER_ROUND = 12;
const SECTOR_BYTES = 512;
/** What `write -s` writes, over and over: longer than a cluster, so that no two clusters of a write are equal. */
const PATTERN_BYTES = 3 * 1024 * 1024 + 512 * 7;
const PATTERN_COUNT = 3;

/** Makes the image in `folder`, which must be empty, and returns its path. */
export function makeRandomImage(folder: string, imageCase: ImageCase, seed: number): string {
  return new RandomImage(folder, imageCase, new Random(seed)).make();
}

class RandomImage {
  readonly #folder: string;
  readonly #case: ImageCase;
  readonly #random: Random;
  readonly #path: string;
  readonly #patterns: readonly string[];
  #sizeBytes: number;
  #snapshotNames: string[] = [];
  #snapshotsTaken = 0;
  readonly #everWritten = new Set<number>();
  readonly #snapshotSizes = new Map<string, number>();

  constructor(folder: string, imageCase: ImageCase, random: Random) {
    this.#folder = folder;
    this.#case = imageCase;
    this.#random = random;
    this.#path = path.join(folder, 'image.qcow2');
    this.#sizeBytes = imageCase.diskBytes;
    this.#patterns = writePatterns(folder, random);
  }

  make(): string {
    const { backing, clusterBytes, diskBytes, endsDirty, options, version, writesCompressed } = this.#case;
    createImage(this.#path, {
      sizeBytes: diskBytes,
      options: [`compat=${version === 2 ? '0.10' : '1.1'}`, `cluster_size=${clusterBytes}`, ...options],
      ...(backing && { backing: { name: this.#makeBacking(backing, 'backing'), format: backing.format } }),
    });
    // While nothing is allocated, a compressed write is always possible.
    if (writesCompressed) runQemuIo(this.#path, this.#compressedCommands(2));
    for (let round = 0; round < ROUND_COUNT; round++) {
      runQemuIo(this.#path, this.#dataCommands());
      this.#changeStates(round);
    }
    if (endsDirty) runQemuIoAndAbort(this.#path, this.#dataCommands(), this.#folder);
    else runQemuIo(this.#path, this.#dataCommands());
    for (const pattern of this.#patterns) fs.rmSync(pattern);
    // QEMU sees zeros where an image file itself has holes; the reader does not ask for these.
    for (const name of fs.readdirSync(this.#folder)) fillHoles(path.join(this.#folder, name));
    return this.#path;
  }

  /** Makes the backing file and returns its name, which is relative, as the image has to find it beside itself. */
  #makeBacking(backing: BackingCase, stem: string): string {
    const name = `${stem}.${backing.format}`;
    const file = path.join(this.#folder, name);
    if (backing.format === 'raw') {
      fs.writeFileSync(file, this.#random.bytes(backing.sizeBytes));
      return name;
    }
    const below = backing.isChain && this.#makeBacking({ ...backing, isChain: false }, `${stem}-of-${stem}`);
    createImage(file, { sizeBytes: backing.sizeBytes, ...(below && { backing: { name: below, format: 'qcow2' } }) });
    const commands = Array.from({ length: OPERATIONS_PER_ROUND }, () => {
      const { offset, length } = this.#range(backing.sizeBytes, SECTOR_BYTES);
      return this.#random.chance(0.8) ? this.#writeCommand('', offset, length) : `write -q -z ${offset} ${length}`;
    });
    runQemuIo(file, commands);
    return name;
  }

  #changeStates(round: number): void {
    const { backing, maxSnapshotCount, version } = this.#case;
    // The first rounds make sure that there is something to delete, to apply and to be read.
    if (round >= 2) {
      if (this.#snapshotNames.length > 1 && this.#random.chance(0.25)) this.#deleteSnapshot();
      if (this.#snapshotNames.length > 0 && this.#random.chance(0.3)) this.#applySnapshot();
    }
    if (this.#snapshotNames.length < maxSnapshotCount && (round < 2 || this.#random.chance(0.7))) this.#takeSnapshot();
    // Version 2 cannot be resized with snapshots, nor hide what a longer backing file has behind the old end.
    const mayResize = version === 3 || (this.#snapshotNames.length === 0 && backing === undefined);
    if (mayResize && this.#random.chance(0.4)) this.#resize();
  }

  #takeSnapshot(): void {
    // No name is a number, as some commands would take it for an id.
    const name = `night ${this.#snapshotsTaken++}`;
    createSnapshot(this.#path, name);
    this.#snapshotNames.push(name);
    this.#snapshotSizes.set(name, this.#sizeBytes);
  }

  #applySnapshot(): void {
    const name = this.#random.pick(this.#snapshotNames);
    applySnapshot(this.#path, name);
    this.#sizeBytes = this.#snapshotSizes.get(name) ?? this.#sizeBytes;
  }

  #deleteSnapshot(): void {
    const name = this.#random.pick(this.#snapshotNames);
    deleteSnapshot(this.#path, name);
    this.#snapshotNames = this.#snapshotNames.filter((other) => other !== name);
  }

  #resize(): void {
    const { diskBytes } = this.#case;
    const factor = 0.6 + 0.8 * this.#random.fraction();
    const sizeBytes = Math.floor((diskBytes * factor) / SECTOR_BYTES) * SECTOR_BYTES;
    if (resizeImage(this.#path, sizeBytes)) this.#sizeBytes = sizeBytes;
  }

  /** The commands of one `qemu-io` process, the compressed writes first: see `#compressedCommands`. */
  #dataCommands(): string[] {
    const compressedCount = this.#case.writesCompressed ? this.#random.below(OPERATIONS_PER_ROUND / 2) : 0;
    const compressed = this.#compressedCommands(compressedCount);
    const others = Array.from({ length: OPERATIONS_PER_ROUND - compressedCount }, () => this.#otherCommand());
    return [...compressed, ...others];
  }

  #otherCommand(): string {
    // Zeros and discards that cover no whole cluster have no effect on the tables.
    const unitBytes = this.#random.chance(0.6) ? this.#case.clusterBytes : SECTOR_BYTES;
    const { offset, length } = this.#range(this.#sizeBytes, unitBytes);
    this.#noteWritten(offset, length);
    const chance = this.#random.fraction();
    if (chance < 0.55) return this.#writeCommand('', offset, length);
    if (chance < 0.7) return `write -q -z ${offset} ${length}`;
    if (chance < 0.85) return `write -q -z -u ${offset} ${length}`;
    return `discard -q ${offset} ${length}`;
  }

  /**
   * Compressed writes of one to four clusters each, as many as there is room for. QEMU refuses them over anything that is
   * allocated; version 3 can discard that.
   *
   * QEMU 7.2 fills up the last cluster of the file that holds compressed data even if that was freed and holds an L2
   * table by then. So nothing is freed between two compressed writes of one process: all discards come first.
   */
  #compressedCommands(count: number): string[] {
    const { clusterBytes, version } = this.#case;
    const clusterCount = Math.ceil(this.#sizeBytes / clusterBytes);
    const taken = new Set<number>();
    const discards: string[] = [];
    const writes: string[] = [];
    for (let attempt = 0; attempt < count; attempt++) {
      const first = this.#random.below(clusterCount);
      const end = Math.min(clusterCount, first + 1 + this.#random.below(4));
      const indexes = Array.from({ length: end - first }, (_, index) => first + index);
      const isFresh = indexes.every((index) => !this.#everWritten.has(index));
      const canDiscard = version === 3 && end * clusterBytes <= this.#sizeBytes;
      if (indexes.some((index) => taken.has(index)) || !(isFresh || canDiscard)) continue;
      const offset = first * clusterBytes;
      const length = Math.min(end * clusterBytes, this.#sizeBytes) - offset;
      if (!isFresh) discards.push(`discard -q ${offset} ${length}`);
      writes.push(this.#writeCommand('-c ', offset, length));
      for (const index of indexes) taken.add(index);
    }
    for (const index of taken) this.#everWritten.add(index);
    return [...discards, ...writes];
  }

  #noteWritten(offset: number, length: number): void {
    const { clusterBytes } = this.#case;
    for (let index = Math.floor(offset / clusterBytes); index * clusterBytes < offset + length; index++) {
      this.#everWritten.add(index);
    }
  }

  #writeCommand(flags: string, offset: number, length: number): string {
    return `write -q ${flags}-s ${this.#random.pick(this.#patterns)} ${offset} ${length}`;
  }

  /** A range of up to a quarter of the disk, in whole units except at the end of the disk. */
  #range(sizeBytes: number, unitBytes: number): { offset: number; length: number } {
    const offset = this.#random.below(Math.ceil(sizeBytes / unitBytes)) * unitBytes;
    const length = this.#random.length(Math.ceil(sizeBytes / 4 / unitBytes)) * unitBytes;
    return { offset, length: Math.min(length, sizeBytes - offset) };
  }
}

function writePatterns(folder: string, random: Random): string[] {
  return Array.from({ length: PATTERN_COUNT }, (_, index) => {
    const file = path.join(folder, `pattern-${index}`);
    fs.writeFileSync(file, random.bytes(PATTERN_BYTES));
    return file;
  });
}

function fillHoles(file: string): void {
  runCommand('cp', ['--sparse=never', file, `${file}.filled`]);
  fs.renameSync(`${file}.filled`, file);
}
