/** All memory that keys are in, as long as a test watches. */

/** Of AES-256-XTS, and of nothing else that is shared. */
export const KEY_BYTES = 64;

export interface KeyMemories {
  /** Whether each that was made since the last call has anything in it but zeros. */
  areInUse(): boolean[];
}

const { SharedArrayBuffer: Real } = globalThis;

/** `restoreSharedMemory` ends it. Memory of over `maxBytes` cannot be had. */
export function watchKeyMemories(maxBytes = Number.POSITIVE_INFINITY): KeyMemories {
  const made: SharedArrayBuffer[] = [];
  globalThis.SharedArrayBuffer = class extends Real {
    constructor(lengthBytes = 0) {
      if (lengthBytes > maxBytes) throw new RangeError('Array buffer allocation failed');
      super(lengthBytes);
      if (lengthBytes === KEY_BYTES) made.push(this);
    }
  };
  return {
    areInUse: () => made.splice(0).map((memory) => Buffer.from(memory).some((byte) => byte !== 0)),
  };
}

export function restoreSharedMemory(): void {
  globalThis.SharedArrayBuffer = Real;
}
