/** Decompressors for compressed clusters: raw deflate and zstd, both synchronous. */

import zlib from 'node:zlib';
import { messageOf, Qcow2fsError } from '../errors.ts';
import { type DecompressFrame, loadLibraryZstd } from './library-zstd.ts';
import { inflateFirstCluster } from './overlong-deflate.ts';
import { loadWasmZstd } from './wasm-zstd.ts';
import { skippableFrameBytes, zstdFrameBytes } from './wire/zstd-frame.ts';

/**
 * Inflates the data of one cluster. `stored` may have bytes behind the compressed stream: the descriptor counts whole
 * sectors. Returns exactly `clusterBytes` bytes.
 * @throws Error of any kind when the data does not give a whole cluster; zstd also when it gives more. A Qcow2fsError of another
 * code than DAMAGED says nothing about the data.
 */
export type Decompress = (stored: Buffer, clusterBytes: number) => Buffer;

/** Room for zlib to see the end of the stream without a second output buffer. */
const OUTPUT_SLACK_BYTES = 64;

/** QEMU writes one for a cluster. Frames may be empty: millions of them fit in the data of a large cluster. */
const MAX_ZSTD_FRAMES = 1024;

/** Raw deflate, as QEMU writes it (a window of 4 KiB, no zlib header). */
export function inflateCluster(stored: Buffer, clusterBytes: number): Buffer {
  let cluster: Buffer;
  try {
    cluster = zlib.inflateRawSync(stored, {
      chunkSize: clusterBytes + OUTPUT_SLACK_BYTES,
      maxOutputLength: clusterBytes,
      // QEMU accepts a stream whose end mark is missing if the cluster is full: so no error for an early end of input.
      finishFlush: zlib.constants.Z_SYNC_FLUSH,
    });
  } catch {
    return inflateFirstCluster(stored, clusterBytes);
  }
  return requireWholeCluster(cluster, clusterBytes);
}

/** zstd: one or several frames that fill the cluster. */
export function decompressZstdCluster(stored: Buffer, clusterBytes: number): Buffer {
  const parts: Buffer[] = [];
  let filled = 0;
  let offset = 0;
  for (let frame = 0; filled < clusterBytes; frame++) {
    if (frame === MAX_ZSTD_FRAMES) throw new Qcow2fsError('DAMAGED', `over ${MAX_ZSTD_FRAMES} zstd frames`);
    const frameBytes = zstdFrameBytes(stored, offset);
    if (frameBytes === undefined) {
      const skippedBytes = skippableFrameBytes(stored, offset);
      if (skippedBytes === undefined) throw new Qcow2fsError('DAMAGED', 'no whole zstd frame');
      offset += skippedBytes;
      continue;
    }
    const part = decompressZstdFrame(stored.subarray(offset, offset + frameBytes), clusterBytes - filled);
    parts.push(part);
    filled += part.length;
    offset += frameBytes;
  }
  return requireWholeCluster(
    parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts),
    clusterBytes,
  );
}

let fastestZstd: DecompressFrame | undefined;

/** Nothing of it is loaded before the first frame, and by most threads never. */
function decompressZstdFrame(frame: Buffer, maxBytes: number): Buffer {
  fastestZstd ??= loadLibraryZstd() ?? loadOwnZstd();
  return fastestZstd(frame, maxBytes);
}

/**
 * Node.js has zstd from 22.15 on; before that, the reference library compiled to WebAssembly does it.
 * @throws Qcow2fsError UNSUPPORTED, which may go away: the limits of a process can be changed while it runs.
 */
export function loadOwnZstd(): DecompressFrame {
  if ('zstdDecompressSync' in zlib) {
    const builtIn = zlib.zstdDecompressSync as (frame: Buffer, options: { maxOutputLength: number }) => Buffer;
    return (frame, maxBytes) => builtIn(frame, { maxOutputLength: maxBytes });
  }
  try {
    return loadWasmZstd();
  } catch (cause) {
    // Too many open files, for instance.
    if (cause instanceof Error && 'errno' in cause) throw new Qcow2fsError('IO', messageOf(cause), { cause });
    throw new Qcow2fsError(
      'UNSUPPORTED',
      `its clusters are compressed with zstd, which nothing can decompress here (${messageOf(cause)}): raise the limit on ` +
        'the address space (ulimit -v), or install libzstd1 and the npm package koffi',
      { cause },
    );
  }
}

function requireWholeCluster(cluster: Buffer, clusterBytes: number): Buffer {
  if (cluster.length === clusterBytes) return cluster;
  throw new Qcow2fsError('DAMAGED', `it gives ${cluster.length} bytes, not a cluster of ${clusterBytes}`);
}
