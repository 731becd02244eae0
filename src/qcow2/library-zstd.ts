/**
 * libzstd as it is installed, called through koffi: more than twice as fast as the same library compiled to WebAssembly. QEMU
 * links to it, and so do dpkg and rpm, so it is nearly everywhere.
 */

import zlib from 'node:zlib';
import { loadKoffi } from '../common/koffi.ts';

/** The name of its first stable interface, which is the only one so far. */
const LIBRARY = 'libzstd.so.1';

/** Inflates one frame to at most `maxBytes` bytes. */
export type DecompressFrame = (frame: Buffer, maxBytes: number) => Buffer;

/**
 * undefined where koffi or the library is missing, and where Node.js has a zstd of its own: calls inside the library would go to the
 * functions of the same names that it exports, of another version perhaps.
 */
export function loadLibraryZstd(): DecompressFrame | undefined {
  if ('zstdDecompressSync' in zlib) return undefined;
  const koffi = loadKoffi();
  if (koffi === undefined) return undefined;
  try {
    const library = koffi.load(LIBRARY);
    const context = library.func('uintptr_t ZSTD_createDCtx()')();
    if (context === 0) return undefined;
    const decompress = library.func('size_t ZSTD_decompressDCtx(uintptr_t, uintptr_t, size_t, uintptr_t, size_t)');
    const addressOf = (bytes: Buffer) => Number(koffi.address(bytes));
    return (frame, maxBytes) => {
      const target = Buffer.allocUnsafeSlow(maxBytes);
      const count = decompress(context, addressOf(target), maxBytes, addressOf(frame), frame.length);
      // Errors are the negative values of a size_t (ZSTD_isError in zstd.h).
      if (count > maxBytes) throw new Error(`libzstd reports error ${-BigInt.asIntN(64, BigInt(count))}`);
      // A frame may be empty, and a cluster have a thousand of them: none keeps room that it does not use.
      return count === maxBytes ? target : Buffer.from(target.subarray(0, count));
    };
  } catch {
    return undefined;
  }
}
