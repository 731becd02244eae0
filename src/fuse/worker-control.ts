/**
 * What the main thread can see of its workers while they sit in system calls: memory that both share.
 *
 * The kernel waits for ever for the reply to a request that was read by a worker which then died, since the other
 * workers keep the connection open. So each worker notes the `unique` of its request before it handles it, and main can
 * answer in its place.
 *
 * | word   | meaning                                                     |
 * |--------|-------------------------------------------------------------|
 * | 0      | workers that do not handle a request: they read, or write   |
 * | 1      | 1 while a wish for one more worker is with main             |
 * | 2      | descriptor of the device once it is mounted; 0 before       |
 * | 3      | requests done by all workers, modulo 2^32                   |
 * | 4 + 3s | slot s: state                                               |
 * | 5 + 3s | slot s: `unique` of its request, low half                   |
 * | 6 + 3s | slot s: high half                                           |
 */

const IDLE_COUNT = 0;
const GROWTH_WANTED = 1;
const DEVICE_FD = 2;
const REPLY_COUNT = 3;
const SLOTS = 4;
const SLOT_WORDS = 3;

/** No worker, or one that is not in its loop. */
const ABSENT = 0;
const IDLE = 1;
/** Handles something that the kernel does not wait for. */
const BUSY = 2;
/** Handles the request with the `unique` of the slot. */
const OWES_REPLY = 3;
/** Gives its reply to the kernel. */
const REPLYING = 4;

export const MAX_WORKER_COUNT = 8;

/** A request that will get no reply from its worker. */
export interface LostRequest {
  readonly uniqueLow: number;
  readonly uniqueHigh: number;
}

/** The memory behind a `WorkerControl`, to be sent to workers. */
export function createControlMemory(): SharedArrayBuffer {
  return new SharedArrayBuffer((SLOTS + MAX_WORKER_COUNT * SLOT_WORDS) * 4);
}

export class WorkerControl {
  readonly #words: Int32Array;

  constructor(memory: SharedArrayBuffer) {
    this.#words = new Int32Array(memory);
  }

  /** Main: read(2) on the device works from now on; before the mount it is EPERM. */
  announceMount(fd: number): void {
    Atomics.store(this.#words, DEVICE_FD, fd);
    Atomics.notify(this.#words, DEVICE_FD);
  }

  /** Worker: blocks its thread until `announceMount`, and returns the descriptor of the device. */
  waitForMount(): number {
    Atomics.wait(this.#words, DEVICE_FD, 0);
    return Atomics.load(this.#words, DEVICE_FD);
  }

  /** Worker: its loop begins. */
  enter(slot: number): void {
    Atomics.store(this.#words, stateIndex(slot), IDLE);
    Atomics.add(this.#words, IDLE_COUNT, 1);
  }

  /**
   * Worker: it has read a request; `owesReply` if the kernel waits for its reply. True when no other worker is left to
   * take the next request and main has not been told so yet: then the caller tells it.
   */
  markBusy(slot: number, owesReply: boolean, uniqueLow: number, uniqueHigh: number): boolean {
    const state = stateIndex(slot);
    Atomics.store(this.#words, state + 1, uniqueLow);
    Atomics.store(this.#words, state + 2, uniqueHigh);
    Atomics.store(this.#words, state, owesReply ? OWES_REPLY : BUSY);
    const wasLast = Atomics.sub(this.#words, IDLE_COUNT, 1) === 1;
    return wasLast && Atomics.compareExchange(this.#words, GROWTH_WANTED, 0, 1) === 0;
  }

  /**
   * Worker: the reply is made, though the kernel does not have it yet. It counts as idle from here on, since write(2)
   * wakes the caller, who may then keep this thread from its processor for long: a single reader with one request at a
   * time would make a whole pool look busy.
   */
  markHandled(slot: number): void {
    const state = stateIndex(slot);
    const isOwed = Atomics.load(this.#words, state) === OWES_REPLY;
    Atomics.store(this.#words, state, isOwed ? REPLYING : IDLE);
    Atomics.add(this.#words, IDLE_COUNT, 1);
  }

  /** Worker: the kernel has the reply. */
  markReplied(slot: number): void {
    Atomics.store(this.#words, stateIndex(slot), IDLE);
    Atomics.add(this.#words, REPLY_COUNT, 1);
  }

  /** Main: how many requests are done so far; only good for noticing that there was one. */
  get replyCount(): number {
    return Atomics.load(this.#words, REPLY_COUNT);
  }

  get idleCount(): number {
    return Atomics.load(this.#words, IDLE_COUNT);
  }

  /** Main: has dealt with the wish for one more worker and can hear the next one. */
  acceptGrowthWishes(): void {
    Atomics.store(this.#words, GROWTH_WANTED, 0);
  }

  /** Main: the worker of the slot has ended, in whatever way. Returns the request that it leaves behind. */
  clearSlot(slot: number): LostRequest | undefined {
    const state = Atomics.exchange(this.#words, stateIndex(slot), ABSENT);
    if (state === IDLE || state === REPLYING) Atomics.sub(this.#words, IDLE_COUNT, 1);
    if (state !== OWES_REPLY && state !== REPLYING) return undefined;
    return {
      uniqueLow: Atomics.load(this.#words, stateIndex(slot) + 1) >>> 0,
      uniqueHigh: Atomics.load(this.#words, stateIndex(slot) + 2) >>> 0,
    };
  }
}

function stateIndex(slot: number): number {
  return SLOTS + slot * SLOT_WORDS;
}
