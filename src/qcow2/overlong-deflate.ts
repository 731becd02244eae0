/**
 * Raw deflate data that goes on behind a full cluster, with more data or with garbage. QEMU has room for one cluster, inflates until
 * that is full, and takes it if nothing was wrong up to there (qcow2_zlib_decompress, block/qcow2-threads.c). zlib of Node.js gives
 * nothing of data that is more than what there is room for, so that such a cluster takes some twenty attempts, and more if it is made to.
 */

import zlib from 'node:zlib';
import { countGarbage } from '../common/external-garbage.ts';
import { Qcow2fsError } from '../errors.ts';

/**
 * A crafted cluster may ask for 127 attempts at its last byte, of 10 ms and more each where it is large. With 256 KiB it gets all of
 * them, with 2 MiB the first 16: then what it gives is an error.
 */
const MAX_TRIED_BYTES = 32 << 20;

/** Above what the last byte of a prefix can give: 8 codes of one bit, each a match of 258 bytes (RFC 1951, section 3.2.5). */
const MAX_BYTES_OF_ONE = 4096;

/**
 * The first `clusterBytes` bytes of data that gives more.
 * @throws Error of any kind when zlib with room for one cluster would not fill it, or find damage on the way.
 */
export function inflateFirstCluster(stored: Buffer, clusterBytes: number): Buffer {
  requireFullCluster(stored, clusterBytes);
  const start = inflateShortest(stored.subarray(0, shortestPrefix(stored, clusterBytes)), clusterBytes);
  if (start.length < clusterBytes) throw damaged(start.length, clusterBytes);
  return start.subarray(0, clusterBytes);
}

/** Gives zlib a buffer of one cluster, as QEMU does, and forbids that it be filled: the error for that comes before any of the next one. */
function requireFullCluster(stored: Buffer, clusterBytes: number): void {
  countGarbage(clusterBytes);
  try {
    const { length } = inflate(stored, clusterBytes, clusterBytes - 1);
    throw damaged(length, clusterBytes);
  } catch (error) {
    if (!isTooMuch(error)) throw error;
  }
}

/** How many bytes it takes to fill the cluster. More of them never give less. */
function shortestPrefix(stored: Buffer, clusterBytes: number): number {
  let [tooShort, enough] = [0, stored.length];
  while (enough - tooShort > 1) {
    const middle = (tooShort + enough) >>> 1;
    if (fillsCluster(stored, middle, clusterBytes)) enough = middle;
    else tooShort = middle;
  }
  return enough;
}

/** What is wrong with the data lies behind the cluster. */
function fillsCluster(stored: Buffer, prefixBytes: number, clusterBytes: number): boolean {
  try {
    return inflatePrefix(stored, prefixBytes, clusterBytes).length >= clusterBytes;
  } catch {
    return true;
  }
}

/** @param prefix fills the cluster with its last byte; what the data is damaged by may lie in further bits of that. */
function inflateShortest(prefix: Buffer, clusterBytes: number): Buffer {
  try {
    return inflatePrefix(prefix, prefix.length, clusterBytes);
  } catch {
    return inflateBits(prefix, clusterBytes);
  }
}

/**
 * Keeps ever fewer bits of the last byte, and tries all that may stand in place of the others. When those that fill the cluster are
 * all that is kept, the code of the end of the block does no harm behind them, or as much of it as there is room for: so it is found
 * before any of them is lost.
 * @throws Qcow2fsError DAMAGED, if the bits up to some place in the last byte fill the cluster, only for want of attempts
 */
function inflateBits(prefix: Buffer, clusterBytes: number): Buffer {
  const tried = Buffer.from(prefix);
  const last = prefix.length - 1;
  let triedBytes = 0;
  for (const byte of bytesOfSameStart(prefix[last] ?? 0)) {
    triedBytes += clusterBytes;
    if (triedBytes > MAX_TRIED_BYTES) break;
    tried[last] = byte;
    try {
      const start = inflatePrefix(tried, tried.length, clusterBytes);
      if (start.length >= clusterBytes) return start;
    } catch {
      // So these bits do harm as well.
    }
  }
  throw new Qcow2fsError('DAMAGED', 'it is damaged within the byte that fills the cluster');
}

/** All bytes that begin with the same bits as `byte`, the longest same beginning first. A byte begins with its lowest bit (RFC 1951, section 3.1.1). */
function* bytesOfSameStart(byte: number): Generator<number> {
  for (let kept = 7; kept > 0; kept--) {
    const start = (byte & ((1 << kept) - 1)) | (~byte & (1 << kept));
    for (let rest = 0; rest < 1 << (7 - kept); rest++) yield start | (rest << (kept + 1));
  }
}

function inflatePrefix(stored: Buffer, prefixBytes: number, clusterBytes: number): Buffer {
  const roomBytes = clusterBytes + MAX_BYTES_OF_ONE;
  countGarbage(roomBytes);
  return inflate(stored.subarray(0, prefixBytes), roomBytes, roomBytes);
}

function inflate(stored: Buffer, chunkSize: number, maxOutputLength: number): Buffer {
  return zlib.inflateRawSync(stored, { chunkSize, maxOutputLength, finishFlush: zlib.constants.Z_SYNC_FLUSH });
}

function isTooMuch(error: unknown): boolean {
  return error instanceof RangeError && 'code' in error && error.code === 'ERR_BUFFER_TOO_LARGE';
}

function damaged(length: number, clusterBytes: number): Qcow2fsError {
  return new Qcow2fsError('DAMAGED', `it gives ${length} bytes, not a cluster of ${clusterBytes}`);
}
