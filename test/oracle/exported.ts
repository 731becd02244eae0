/** Exports of the states of an image, and what QEMU says about them. */

import fs from 'node:fs';
import { expect } from 'vitest';
import { exportState } from '../../src/open-image/export-state.ts';
import { NO_CHAIN_OPTIONS } from '../../src/open-image/layers.ts';
import { runCommand } from '../support/run-command.ts';
import { checkWithQemu, mapImage } from './qemu.ts';

/** Of the files that are written. */
export const EXPORT_CLUSTER_BYTES = 64 * 1024;

export async function exportTo(path: string, image: string, state: string, isFlat: boolean): Promise<void> {
  await exportState(image, {
    ...{ state, path, isFlat, deltaPath: undefined, chain: NO_CHAIN_OPTIONS, writerOf: () => undefined },
    passphrasesOf: () => Promise.reject(new Error('nothing is encrypted here')),
  });
}

/** Fails unless QEMU finds no error and no leak, and reads in the file what is in the raw file, to its size. */
export function expectWholeImage(path: string, rawPath: string): void {
  const { counts, status, stderr } = checkWithQemu(path);
  expect({ counts, status, stderr }).toMatchObject({ status: 0, stderr: '' });
  expect(counts).toMatchObject({ 'check-errors': 0 });
  expect(counts?.leaks ?? 0).toBe(0);
  expect(counts?.corruptions ?? 0).toBe(0);
  runCommand('qemu-img', ['compare', '-q', '-f', 'raw', '-F', 'qcow2', rawPath, path]);
  expect(infoOf(path)['virtual-size']).toBe(fs.statSync(rawPath).size);
}

interface Info {
  readonly 'virtual-size': number;
  readonly 'cluster-size': number;
  readonly 'backing-filename'?: string;
  readonly 'backing-filename-format'?: string;
  readonly 'format-specific': { readonly data: { readonly compat: string; readonly 'refcount-bits': number } };
}

export function infoOf(path: string): Info {
  return JSON.parse(runCommand('qemu-img', ['info', '--output=json', path])) as Info;
}

/** Offsets of the clusters whose bytes are in the file itself, as `qemu-img map` tells. */
export function storedClusters(path: string): number[] {
  return mapImage(path)
    .filter(({ data, depth }) => data && depth === 0)
    .flatMap(({ length, start }) =>
      Array.from(
        { length: Math.ceil(length / EXPORT_CLUSTER_BYTES) },
        (_, index) => start + index * EXPORT_CLUSTER_BYTES,
      ),
    );
}

/** Offsets of the clusters in which `bytes` differ from `others`, behind whose end are zeros. */
export function differingClusters(bytes: Buffer, others: Buffer): number[] {
  const offsets: number[] = [];
  for (let offset = 0; offset < bytes.length; offset += EXPORT_CLUSTER_BYTES) {
    const piece = bytes.subarray(offset, offset + EXPORT_CLUSTER_BYTES);
    const other = Buffer.alloc(piece.length);
    others.subarray(offset, offset + piece.length).copy(other);
    if (!piece.equals(other)) offsets.push(offset);
  }
  return offsets;
}
