/**
 * Functions of Node.js that inflate or decrypt give new memory with each call. It is not in the heap of V8, which lets 64 MiB of
 * it pile up in each thread before it looks (kExternalAllocationSoftLimit in v8-internal.h). So here its makers count it, and a
 * small collection, which takes well under a millisecond, follows early.
 */

import v8 from 'node:v8';
import vm from 'node:vm';

const MAX_BYTES = 2 * 2 ** 20;

type Collect = (options: { type: 'minor' }) => void;

let bytesSinceCollection = 0;
let collect: Collect | undefined;

/** So many bytes outside the heap were given, and will soon be used by nobody. */
export function countGarbage(bytes: number): void {
  bytesSinceCollection += bytes;
  if (bytesSinceCollection < MAX_BYTES) return;
  bytesSinceCollection = 0;
  collect ??= exposeCollection();
  collect({ type: 'minor' });
}

/** What the option --expose-gc gives to all of a program. */
function exposeCollection(): Collect {
  // It stays: flags are the process's, and another thread may be between these two lines.
  v8.setFlagsFromString('--expose-gc');
  const exposed: unknown = vm.runInNewContext('typeof gc === "function" ? gc : undefined');
  return typeof exposed === 'function' ? (exposed as Collect) : () => {};
}
