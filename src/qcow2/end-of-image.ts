/**
 * Tells an image that ends inside its last cluster from one that was cut: behind the end of a healthy one no cluster is
 * in use, which only the refcounts tell.
 */

import { Qcow2fsError } from '../errors.ts';
import { readExactly } from '../storage/storage.ts';
import type { Qcow2File } from './open-qcow2.ts';
import { QCOW2_INCOMPAT_CORRUPT, QCOW2_INCOMPAT_DIRTY } from './wire/header.ts';
import {
  clustersPerRefcountBlock,
  REFCOUNT_TABLE_ENTRY_BYTES,
  refcountAt,
  refcountBlockOffset,
} from './wire/refcount-entries.ts';

/**
 * Refcounts that are read, table and blocks together. The largest table has 8 MiB, and a healthy image has hardly any
 * block for what is behind its end.
 */
const MAX_SCANNED_BYTES = 64 * 1024 * 1024;
const CHUNK_BYTES = 64 * 1024;
const ZEROS = Buffer.alloc(CHUNK_BYTES);

/**
 * The file offset of the first cluster in use that begins behind the end of the file, or undefined if there is none.
 * `file` ends inside a cluster.
 * @throws Qcow2fsError DAMAGED or PAST_END if the refcounts cannot be read or trusted; IO.
 */
export function findClusterBehindEnd(file: Qcow2File): number | undefined {
  const { header, storage, clusterBytes } = file;
  if ((header.incompatibleFeatures & (QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT)) !== 0n) {
    throw damaged('the image is marked as dirty or corrupt, so its refcounts may be wrong');
  }
  const lastCluster = Math.floor(storage.sizeBytes / clusterBytes);
  let isLastInUse = false;
  for (const cluster of usedClusters(file, lastCluster)) {
    if (cluster > lastCluster) return cluster * clusterBytes;
    isLastInUse = true;
  }
  // Refcounts that do not even know of the cluster that a table maps say nothing about others.
  if (!isLastInUse) throw damaged(`the refcount of its last cluster, at offset ${lastCluster * clusterBytes}, is 0`);
  return undefined;
}

/** The numbers of the clusters whose refcount is not 0, from `first` on. */
function* usedClusters(file: Qcow2File, first: number): Generator<number> {
  const { clusterBytes } = file;
  const { refcountOrder } = file.header;
  const perBlock = clustersPerRefcountBlock(clusterBytes, refcountOrder);
  const bits = 2 ** refcountOrder;
  const perChunk = (CHUNK_BYTES * 8) / bits;
  const read = boundedReader(file);
  for (const { index, offset } of refcountBlocks(file, Math.floor(first / perBlock), read)) {
    const firstOfBlock = index * perBlock;
    // Whole bytes: narrow entries share one.
    const skipped = Math.max(0, Math.floor((first - firstOfBlock) / 8) * 8);
    for (let within = skipped; within < perBlock; within += perChunk) {
      const count = Math.min(perChunk, perBlock - within);
      const chunk = read(offset + (within * bits) / 8, (count * bits) / 8, 'a refcount block');
      if (isZero(chunk)) continue;
      for (let entry = 0; entry < count; entry++) {
        const cluster = firstOfBlock + within + entry;
        if (cluster >= first && refcountAt(chunk, entry, refcountOrder) !== 0) yield cluster;
      }
    }
  }
}

/** The refcount blocks from the table's entry `firstIndex` on. */
function* refcountBlocks({ header, clusterBytes }: Qcow2File, firstIndex: number, read: BoundedRead) {
  const { refcountTableOffset, refcountTableClusters } = header;
  if (refcountTableOffset % clusterBytes !== 0) {
    throw damaged(`header field refcount_table_offset is ${refcountTableOffset}, which is not cluster aligned`);
  }
  const tableBytes = refcountTableClusters * clusterBytes;
  for (let start = firstIndex * REFCOUNT_TABLE_ENTRY_BYTES; start < tableBytes; start += CHUNK_BYTES) {
    const chunk = read(refcountTableOffset + start, Math.min(CHUNK_BYTES, tableBytes - start), 'the refcount table');
    if (isZero(chunk)) continue;
    for (let at = 0; at < chunk.length; at += REFCOUNT_TABLE_ENTRY_BYTES) {
      const offset = refcountBlockOffset(chunk.readUInt32BE(at), chunk.readUInt32BE(at + 4));
      if (offset % clusterBytes !== 0) {
        const position = refcountTableOffset + start + at;
        throw damaged(`the refcount table entry at offset ${position} is ${offset}, which is not cluster aligned`);
      }
      if (offset !== 0) yield { index: (start + at) / REFCOUNT_TABLE_ENTRY_BYTES, offset };
    }
  }
}

type BoundedRead = (position: number, length: number, what: string) => Buffer;

/** A crafted table may name blocks without end: what cannot be looked at in time is not known. */
function boundedReader({ storage }: Qcow2File): BoundedRead {
  let scannedBytes = 0;
  return (position, length, what) => {
    scannedBytes += length;
    if (scannedBytes > MAX_SCANNED_BYTES) {
      throw damaged(`over ${MAX_SCANNED_BYTES} bytes of refcounts are about clusters behind its end`);
    }
    const chunk = Buffer.allocUnsafe(length);
    readExactly(storage, chunk, 0, length, position, what);
    return chunk;
  };
}

function isZero(chunk: Buffer): boolean {
  return chunk.equals(ZEROS.subarray(0, chunk.length));
}

function damaged(what: string): Qcow2fsError {
  return new Qcow2fsError('DAMAGED', what);
}
