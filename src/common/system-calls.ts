/**
 * read(2), pread(2), write(2) and a look at the stamps of a file. A thread that does many of them calls the C library directly, through
 * the optional package koffi, at about half the cost of Node's `fs`: each of these makes its way through a request object
 * of libuv, and `fstatSync` makes an object with four dates. Without the package `fs` does all of it.
 *
 * A direct call that fails is made again by `fs`, which says why: no error is told in two ways. But not write(2): the kernel
 * answers a reply that it has refused with another error the second time.
 */

import fs from 'node:fs';
import { DirectCalls, type Stamps } from './direct-calls.ts';

/** A command that reads one image has less of them, and need not wait for the package to be loaded. */
const CALLS_BEFORE_LOADING = 2_000;

let mayLoad = false;
let tellLoaded: ((calls: DirectCalls) => void) | undefined;
let callsUntilLoading = CALLS_BEFORE_LOADING;
let library: DirectCalls | undefined;

/**
 * For a thread that nobody ends from outside from now on: to be ended while it loads native code ends the process. Others stay
 * with `fs`. `onLoaded` gets the library when it is there.
 */
export function allowDirectCalls(onLoaded?: (calls: DirectCalls) => void): void {
  mayLoad = true;
  tellLoaded = onLoaded;
  if (library !== undefined) onLoaded?.(library);
}

/**
 * Reads at most `length` bytes at `position`, or with null at the position of the descriptor, which a device does not have.
 * Returns how many; 0 is the end.
 * @throws the system error of read(2) or pread(2).
 */
export function readFile(fd: number, target: Buffer, offset: number, length: number, position: number | null): number {
  if (library === undefined) prepare();
  else if (isInside(target, offset, length)) {
    const count = library.read(fd, target, offset, length, position);
    if (count >= 0) return count;
  }
  return fs.readSync(fd, target, offset, length, position);
}

/**
 * Writes at most the first `length` bytes of `source` where the descriptor stands. Returns how many.
 * @throws the system error of write(2).
 */
export function writeFile(fd: number, source: Buffer, length: number): number {
  if (library === undefined) prepare();
  else if (isInside(source, 0, length)) return library.write(fd, source, length);
  return fs.writeSync(fd, source, 0, length);
}

/**
 * True while size, mtime and ctime of an open file are those that `fs.Stats` had for it.
 * @throws the system error of fstat(2).
 */
export function hasStamps(fd: number, stamps: Stamps): boolean {
  if (library === undefined) prepare();
  // Stamps that seem to be others are looked at once more: only Node itself makes its numbers for certain.
  else if (library.hasStamps(fd, stamps)) return true;
  const stat = fs.fstatSync(fd);
  return stat.mtimeMs === stamps.mtimeMs && stat.ctimeMs === stamps.ctimeMs && stat.size === stamps.sizeBytes;
}

/** A wrong length would be written behind the memory of a buffer: there is nobody else here who looks. */
function isInside(bytes: Buffer, offset: number, length: number): boolean {
  return offset >= 0 && length >= 0 && offset + length <= bytes.length;
}

function prepare(): void {
  if (!mayLoad || --callsUntilLoading !== 0) return;
  library = DirectCalls.load();
  if (library !== undefined) tellLoaded?.(library);
}
