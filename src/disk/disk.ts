/** The contract of a disk: a guest-visible address space of bytes, whatever it is stored in. */

/**
 * What a range of a disk holds.
 * - `data`: bytes stored as they are at `hostOffset`, or encrypted (`hostOffset` is -1 then)
 * - `compressed`: bytes stored compressed
 * - `zero`: zeros by an explicit mark in a table
 * - `hole`: nothing is stored in any layer: zeros
 * - `damaged`: the tables do not say what is there; reading it throws
 */
export type ExtentKind = 'data' | 'compressed' | 'zero' | 'hole' | 'damaged';

/** A range of a disk that is of one kind; filled in by `extentAt`, so that a walk over a disk allocates nothing. */
export interface Extent {
  kind: ExtentKind;
  /** How far the kind holds, from the offset that was asked for. */
  lengthBytes: number;
  /** Where the bytes are in the file of their layer, or -1 if that has no single answer. */
  hostOffset: number;
  /** Which layer decided: 0 is the image itself, 1 its backing file, and so on. */
  depth: number;
}

export interface Disk {
  /** Size of the address space. */
  readonly sizeBytes: number;
  /**
   * Says in `into` what is at `offset` and how far that holds, at most `maxLengthBytes` (both within the disk).
   * Neighbours of the same kind may come as several extents. Damage in the tables is reported as `damaged`.
   * @throws Qcow2fsError IO when the operating system fails.
   */
  extentAt(offset: number, maxLengthBytes: number, into: Extent): void;
  /**
   * Reads exactly `length` bytes at `offset`, all within the disk, into `target` at `targetOffset`.
   * @throws Qcow2fsError DAMAGED, PAST_END or IO when any of the bytes cannot be told exactly.
   */
  readAt(target: Buffer, targetOffset: number, offset: number, length: number): void;
  /**
   * Bytes that are not holes or zeros. Exact, or an estimate where counting would read too much metadata; the
   * implementation says which.
   */
  allocatedBytes(): number;
  /** Bytes of tables that a walk over all extents reads; if they are too many to be walked, those that were counted. */
  metadataBytes(): number;
}

/** An extent to be filled in. */
export function createExtent(): Extent {
  return { kind: 'hole', lengthBytes: 0, hostOffset: -1, depth: 0 };
}

/** True for the kinds that read as zeros without any bytes being stored. */
export function isSparse(kind: ExtentKind): boolean {
  return kind === 'hole' || kind === 'zero';
}
