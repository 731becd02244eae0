/**
 * The head of an image file as it was when its tables were read: the bytes that tell whether they still stand. With an image
 * that is written to, it is read again after each read (see `snapshot-liveness.ts`).
 */

import { isDeepStrictEqual } from 'node:util';
import { Qcow2fsError } from '../errors.ts';
import type { Storage } from '../storage/storage.ts';
import { openQcow2, type Qcow2File, type Qcow2Metadata } from './open-qcow2.ts';
import {
  decodeHeader,
  QCOW2_INCOMPAT_CORRUPT,
  QCOW2_INCOMPAT_DIRTY,
  SNAPSHOT_FIELDS_END,
  SNAPSHOT_FIELDS_START,
} from './wire/header.ts';

/** Header, extensions and the name of the backing file as QEMU writes them are shorter. */
const USUAL_HEAD_BYTES = 4096;

/**
 * Reads the head.
 * @throws Qcow2fsError IO.
 */
export function readHead(storage: Storage, { header, clusterBytes }: Qcow2Metadata): Buffer {
  const nameEnd = header.backingFileOffset + header.backingFileSize;
  const head = Buffer.alloc(Math.min(clusterBytes, Math.max(USUAL_HEAD_BYTES, nameEnd)));
  return head.subarray(0, storage.readUpTo(head, 0, head.length, 0));
}

/** True if the header in this head is the one of `metadata`. */
export function isHeadOf(head: Buffer, { header }: Qcow2Metadata): boolean {
  try {
    return isDeepStrictEqual(decodeHeader(head), header);
  } catch {
    return false;
  }
}

/** nb_snapshots and snapshots_offset: what QEMU writes at once when the snapshot table has moved. A view of the head. */
export function snapshotFields(head: Buffer): Buffer {
  return head.subarray(SNAPSHOT_FIELDS_START, SNAPSHOT_FIELDS_END);
}

/**
 * True if the snapshots of an image with the head of now mean the same bytes as they did in `file`: what changes with a
 * running virtual machine (sizes, places of tables, flags of the state) does not count, nor does what stands between.
 */
export function hasSameMeaning(file: Qcow2File): boolean {
  let now: Qcow2Metadata;
  try {
    now = openQcow2(file.storage);
  } catch (error) {
    if (error instanceof Qcow2fsError && error.code === 'IO') throw error;
    return false;
  }
  return meaningOf(now) === meaningOf(file);
}

/** What has to stay for the clusters and tables of a snapshot to mean the same bytes. */
export function meaningOf(metadata: Qcow2Metadata): string {
  const { header, hasDataFile, backingName, backingFormat, lostBackingFormat } = metadata;
  const features = header.incompatibleFeatures & ~(QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT);
  return JSON.stringify([
    ...[header.clusterBits, header.cryptMethod, header.compressionType, String(features)],
    ...[hasDataFile, backingName, backingFormat, lostBackingFormat !== undefined],
  ]);
}
