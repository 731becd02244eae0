/** System calls through the C library itself, by the optional package koffi: at about half the cost of those of Node's `fs`. */

import { type Koffi, lastError, loadKoffi } from './koffi.ts';

/** include/uapi/linux/fcntl.h, include/uapi/linux/stat.h */
const AT_EMPTY_PATH = 0x1000;
const STATX_MTIME_CTIME_SIZE = 0x40 | 0x80 | 0x200;

/** `struct statx` of include/uapi/linux/stat.h, which is the same on every architecture. */
const STATX_BYTES = 256;
const STATX_SIZE_OFFSET = 40;
const STATX_CTIME_OFFSET = 96;
const STATX_MTIME_OFFSET = 112;

const TWO_TO_32 = 0x1_0000_0000;

type Call = (...args: number[]) => number;

/** What a file is known by that was not written to. */
export interface Stamps {
  readonly sizeBytes: number;
  readonly mtimeMs: number;
  readonly ctimeMs: number;
}

/** Nothing is checked here: a range that is not inside its buffer is read or written in the memory beside it. */
export class DirectCalls {
  readonly #koffi: Koffi;
  readonly #read: Call;
  readonly #pread: Call;
  readonly #write: Call;
  readonly #statx: Call;
  readonly #setAffinity: Call;
  /** Memory that is not in the heap of V8 stays where it is. */
  readonly #addresses = new WeakMap<Buffer, number>();
  readonly #emptyPath = Buffer.alloc(1);
  readonly #stat = Buffer.alloc(STATX_BYTES);
  readonly #words = new Int32Array(this.#stat.buffer, this.#stat.byteOffset, STATX_BYTES / 4);

  private constructor(koffi: Koffi) {
    const c = koffi.load(null);
    this.#koffi = koffi;
    this.#read = c.func('long read(int, uintptr_t, size_t)');
    this.#pread = c.func('long pread(int, uintptr_t, size_t, int64_t)');
    this.#write = c.func('long write(int, uintptr_t, size_t)');
    this.#setAffinity = c.func('int sched_setaffinity(int, size_t, uintptr_t)');
    this.#statx = c.func('int statx(int, uintptr_t, int, unsigned int, uintptr_t)');
  }

  /** undefined where the package, or a function of the C library, is missing. */
  static load(): DirectCalls | undefined {
    const koffi = loadKoffi();
    try {
      // With a shorter long, off_t may be shorter than the positions here.
      return koffi?.sizeof('long') === 8 ? new DirectCalls(koffi) : undefined;
    } catch {
      return undefined;
    }
  }

  /** read(2), or pread(2) with a position. -1 where it fails. */
  read(fd: number, target: Buffer, offset: number, length: number, position: number | null): number {
    const address = this.#addressOf(target) + offset;
    return position === null ? this.#read(fd, address, length) : this.#pread(fd, address, length, position);
  }

  /**
   * write(2).
   * @throws a system error with the code, the errno and the syscall that those of `fs` have.
   */
  write(fd: number, source: Buffer, length: number): number {
    const count = this.#write(fd, this.#addressOf(source), length);
    if (count < 0) throw systemError(this.#koffi, 'write');
    return count;
  }

  /** False also where the file cannot be looked at. */
  hasStamps(fd: number, { sizeBytes, mtimeMs, ctimeMs }: Stamps): boolean {
    const path = this.#addressOf(this.#emptyPath);
    if (this.#statx(fd, path, AT_EMPTY_PATH, STATX_MTIME_CTIME_SIZE, this.#addressOf(this.#stat)) !== 0) return false;
    return (
      this.#milliseconds(STATX_MTIME_OFFSET) === mtimeMs &&
      this.#milliseconds(STATX_CTIME_OFFSET) === ctimeMs &&
      this.#i64(STATX_SIZE_OFFSET) === sizeBytes
    );
  }

  /** Where the calling thread runs from now on, sched_setaffinity(2). False if it stays as it was. */
  setCpus(cpus: readonly number[]): boolean {
    // An array of `unsigned long`.
    const words = new BigUint64Array(Math.floor(Math.max(...cpus) / 64) + 1);
    for (const cpu of cpus) {
      const word = Math.floor(cpu / 64);
      words[word] = (words[word] ?? 0n) | (1n << BigInt(cpu % 64));
    }
    const mask = Buffer.from(words.buffer);
    return this.#setAffinity(0, mask.length, this.#addressOf(mask)) === 0;
  }

  /** `struct statx_timestamp` as `fs.Stats` has it. */
  #milliseconds(offset: number): number {
    return this.#i64(offset) * 1000 + (this.#words[offset / 4 + 2] ?? 0) / 1e6;
  }

  #i64(offset: number): number {
    const word = offset / 4;
    return (this.#words[word + 1] ?? 0) * TWO_TO_32 + ((this.#words[word] ?? 0) >>> 0);
  }

  #addressOf(bytes: Buffer): number {
    let address = this.#addresses.get(bytes);
    if (address === undefined) {
      address = Number(this.#koffi.address(bytes));
      this.#addresses.set(bytes, address);
    }
    return address;
  }
}

function systemError(koffi: Koffi, syscall: string): NodeJS.ErrnoException {
  const { errno, code } = lastError(koffi);
  return Object.assign(new Error(`${code}, ${syscall}`), { errno, code, syscall });
}
