/** The bytes that probers look at. */

import type { Disk } from '../../disk/disk.ts';
import { Qcow2fsError } from '../../errors.ts';

/** Codes of failures that belong to a place of the disk. All others are failures of the whole image. */
const LOCAL_CODES: ReadonlySet<string> = new Set(['DAMAGED', 'PAST_END', 'IO']);

/** A disk that says `undefined` where it cannot be read, and tells why once. */
export class ProbeSource {
  readonly sizeBytes: number;
  readonly #disk: Disk;
  readonly #onProblem: (problem: Qcow2fsError) => void;
  readonly #told = new Set<string>();

  constructor(disk: Disk, onProblem: (problem: Qcow2fsError) => void) {
    this.#disk = disk;
    this.#onProblem = onProblem;
    this.sizeBytes = disk.sizeBytes;
  }

  /**
   * `length` bytes at `offset`, or undefined if they are not all within the disk, or cannot be read. Callers keep `length`
   * below a limit of their own; `offset` may be any number.
   * @throws Qcow2fsError that is not about a place of the disk: STALE, BUSY, …
   */
  read(offset: number, length: number): Buffer | undefined {
    if (!Number.isSafeInteger(offset) || offset < 0 || length > this.sizeBytes - offset) return undefined;
    const bytes = Buffer.alloc(length);
    try {
      this.#disk.readAt(bytes, 0, offset, length);
      return bytes;
    } catch (error) {
      if (!(error instanceof Qcow2fsError) || !LOCAL_CODES.has(error.code)) throw error;
      this.tell(error);
      return undefined;
    }
  }

  /** True if the disk has these bytes (one character per byte) at `offset`. */
  has(offset: number, magic: string): boolean {
    return this.read(offset, magic.length)?.toString('latin1') === magic;
  }

  /** Tells a problem, unless it was told before. */
  tell(problem: Qcow2fsError): void {
    if (this.#told.has(problem.message)) return;
    this.#told.add(problem.message);
    this.#onProblem(problem);
  }
}
