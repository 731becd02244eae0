/** The package koffi, by which functions of the C library are called. It is optional: whoever uses it can do without. */

import { createRequire } from 'node:module';
import { getSystemErrorName } from 'node:util';
import { toSystemCode } from '../errors.ts';

/** The part of the package that is used: this program is built without it too. */
export interface Koffi {
  /** null is this process itself, with the C library. */
  /** What is not a number (a buffer, for one) has to be said where the function is found. */
  load(library: string | null): {
    func<Args extends unknown[] = number[]>(prototype: string): (...args: Args) => number;
  };
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

/** Why the last call failed: its errno, negative as in system errors of Node.js, and the name of it, such as `ENOENT`. */
export function lastError(koffi: Koffi): { readonly errno: number; readonly code: string } {
  const errno = -koffi.errno();
  return { errno, code: toSystemCode(getSystemErrorName(errno)) };
}
