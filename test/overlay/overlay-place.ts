/** Overlays to be tested, and small file systems for their deltas. */

import fs from 'node:fs';
import type { Disk } from '../../src/disk/disk.ts';
import { Delta } from '../../src/overlay/delta.ts';
import { BLOCK_BYTES, type DeltaMemory } from '../../src/overlay/delta-memory.ts';
import { closeDelta, createTemporaryDelta } from '../../src/overlay/open-delta.ts';
import { OverlayDisk } from '../../src/overlay/overlay-disk.ts';
import { runCommand } from '../support/run-command.ts';

export interface Overlay {
  readonly disk: OverlayDisk;
  readonly delta: Delta;
  readonly memory: DeltaMemory;
}

/** An overlay over a delta that is there already. */
export function overlayOf(base: Disk, memory: DeltaMemory): Overlay {
  const delta = new Delta(memory);
  return { disk: new OverlayDisk(base, delta, () => undefined), delta, memory };
}

/** Runs `body` with an overlay that is thrown away. */
export function withOverlay<Result>(
  base: Disk,
  body: (overlay: Overlay) => Result,
  options: { readonly maxBytes?: number; readonly folder?: string } = {},
): Result {
  const memory = createTemporaryDelta({ sizeBytes: base.sizeBytes, maxBytes: 2 ** 50, ...options });
  try {
    return body(overlayOf(base, memory));
  } finally {
    closeDelta(memory);
  }
}

/** All bytes of [`offset`, `offset` + `length`). */
export function readBytes(disk: Disk, offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(length, 0xee);
  disk.readAt(bytes, 0, offset, length);
  return bytes;
}

/** What the file system has allocated for the delta. */
export function fileBytes(memory: DeltaMemory): number {
  return fs.fstatSync(memory.fd).blocks * 512;
}

/** Takes all the space of a file system. */
export function fillWith(file: string, pieceBytes = BLOCK_BYTES): void {
  const fd = fs.openSync(file, 'w');
  try {
    for (;;) fs.writeSync(fd, Buffer.alloc(pieceBytes, 1));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
  } finally {
    fs.closeSync(fd);
  }
}

/** Runs `body` with a tmpfs of `sizeBytes` bytes. */
export async function withTmpfs<Result>(
  folder: string,
  sizeBytes: number,
  body: (mounted: string) => Result | Promise<Result>,
): Promise<Result> {
  return withMount(folder, ['-t', 'tmpfs', '-o', `size=${sizeBytes}`, 'none'], body);
}

/** Runs `body` with a new ext4 of `sizeBytes` bytes on a loop device. */
export async function withExt4<Result>(
  folder: string,
  sizeBytes: number,
  body: (mounted: string) => Result | Promise<Result>,
  options: readonly string[] = [],
): Promise<Result> {
  const image = `${folder}/ext4`;
  fs.writeFileSync(image, '');
  fs.truncateSync(image, sizeBytes);
  runCommand('mkfs.ext4', ['-q', '-m', '0', ...options, image]);
  return withMount(folder, ['-o', 'loop', image], body);
}

/** Runs `body` with a file system of files that cannot have holes made in them. */
export async function withRamfs<Result>(
  folder: string,
  body: (mounted: string) => Result | Promise<Result>,
): Promise<Result> {
  return withMount(folder, ['-t', 'ramfs', 'none'], body);
}

async function withMount<Result>(
  folder: string,
  args: readonly string[],
  body: (mounted: string) => Result | Promise<Result>,
): Promise<Result> {
  const mounted = `${folder}/mounted`;
  fs.mkdirSync(mounted);
  runCommand('mount', [...args, mounted]);
  try {
    return await body(mounted);
  } finally {
    runCommand('umount', [mounted]);
  }
}
