/** The contract of what `map` asks: is something stored in a layer, does it read as zeros, and where is it in its file. */

export interface BlockStatus {
  isData: boolean;
  isZero: boolean;
  /** Nothing can be told: the tables are damaged. */
  isDamaged: boolean;
  /** -1 if the bytes are not stored as they are. */
  hostOffset: number;
  lengthBytes: number;
}

export function createBlockStatus(): BlockStatus {
  return { isData: false, isZero: false, isDamaged: false, hostOffset: -1, lengthBytes: 0 };
}

/** A layer whose status can be asked for. */
export interface StatusSource {
  readonly sizeBytes: number;
  /** `offset` is below `sizeBytes`. @throws Qcow2fsError IO. */
  statusAt(offset: number, maxLengthBytes: number, into: BlockStatus): void;
}
