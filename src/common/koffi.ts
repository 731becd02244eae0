/** The package koffi, by which functions of the C library are called. It is optional: whoever uses it can do without. */

import { createRequire } from 'node:module';
import { getSystemErrorName } from 'node:util';

/** The part of the package that is used: this program is built without it too. */
export interface Koffi {
  /** null is this process itself, with the C library. */
  load(library: string | null): { func(prototype: string): (...args: unknown[]) => number };
  errno(): number;
  /** Bytes of a C type. */
  sizeof(type: string): number;
  /** Where the memory of a buffer begins. */
  address(bytes: Uint8Array): bigint;
}

/** @throws where it is not installed, or was not built for this machine. */
export function requireKoffi(): Koffi {
  return createRequire(import.meta.url)('koffi') as Koffi;
}

/** undefined where it cannot be loaded. */
export function loadKoffi(): Koffi | undefined {
  try {
    return requireKoffi();
  } catch {
    return undefined;
  }
}

/** Why the last call failed, such as `ENOENT`; to be asked before anything else is called. */
export function lastErrorName(koffi: Koffi): string {
  return getSystemErrorName(-koffi.errno());
}
