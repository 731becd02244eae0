/** Which node each open file is: its path may be another node's by now. */

import { Qcow2fsError } from '../errors.ts';
import type { NodeId } from '../filesystem/file-system.ts';

/** The package takes a handle as an int32_t, and 0 for none (fuse_native_signal_open). */
const MAX_HANDLE = 0x7fff_ffff;

/** Handles of open files. As many are kept as files are open: the kernel releases each once nothing can use it. */
export class OpenFiles {
  readonly #nodes = new Map<number, NodeId>();
  readonly #maxHandle: number;
  #last = 0;

  constructor(maxHandle = MAX_HANDLE) {
    this.#maxHandle = maxHandle;
  }

  /** Returns a handle, above 0, that no open file has. */
  add(node: NodeId): number {
    if (this.#nodes.size >= this.#maxHandle) throw new Qcow2fsError('INTERNAL', 'there is no handle left');
    do this.#last = (this.#last % this.#maxHandle) + 1;
    while (this.#nodes.has(this.#last));
    this.#nodes.set(this.#last, node);
    return this.#last;
  }

  /** @throws Qcow2fsError INTERNAL for a handle that no open file has. */
  node(handle: number): NodeId {
    const node = this.#nodes.get(handle);
    if (node === undefined) throw new Qcow2fsError('INTERNAL', `no open file has the handle ${handle}`);
    return node;
  }

  remove(handle: number): void {
    this.#nodes.delete(handle);
  }
}
