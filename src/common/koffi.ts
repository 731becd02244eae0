/** The package koffi, by which functions of the C library are called. It is optional: whoever uses it can do without. */

import { createRequire } from 'node:module';

/** The part of the package that is used: this program is built without it too. */
export interface Koffi {
  /** null is this process itself, with the C library. */
  load(library: string | null): { func(prototype: string): (...args: number[]) => number };
  errno(): number;
  /** Bytes of a C type. */
  sizeof(type: string): number;
  /** Where the memory of a buffer begins. */
  address(bytes: Uint8Array): bigint;
}

/** undefined where it is not installed, or was not built for this machine. */
export function loadKoffi(): Koffi | undefined {
  try {
    return createRequire(import.meta.url)('koffi') as Koffi;
  } catch {
    return undefined;
  }
}
