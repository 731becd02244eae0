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
 * | 4      | generation of the file system that is to be served          |
 * | 5 + 5s | slot s: state                                               |
 * | 6 + 5s | slot s: `unique` of its request, low half                   |
 * | 7 + 5s | slot s: high half                                           |
 * | 8 + 5s | slot s: generation of the file system that it serves        |
 * | 9 + 5s | slot s: generation that main has sent to it                 |
 */

const IDLE_COUNT = 0;
const GROWTH_WANTED = 1;
const DEVICE_FD = 2;
const REPLY_COUNT = 3;
const GENERATION = 4;
const SLOTS = 5;
const SLOT_WORDS = 5;

/** Of a slot, from its state on. */
const UNIQUE_LOW = 1;
const UNIQUE_HIGH = 2;
const SERVED_GENERATION = 3;
const SENT_GENERATION = 4;

/** No worker, or one that is not in its loop. */
const ABSENT = 0;
const IDLE = 1;
/** Handles something that the kernel does not wait for. */
const BUSY = 2;
/** Handles the request with the `unique` of the slot. */
const OWES_REPLY = 3;
/** Gives its reply to the kernel. */
const REPLYING = 4;

/** With one worker, single requests wait for its thread to be woken: 56 against 18 us were measured. */
export const START_WORKER_COUNT = 2;
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

  /** Worker: its loop begins, with the file system of a generation. */
  enter(slot: number, generation: number): void {
    this.adopt(slot, generation);
    Atomics.store(this.#words, stateIndex(slot), IDLE);
    Atomics.add(this.#words, IDLE_COUNT, 1);
  }

  /**
   * Worker: it has read a request; `owesReply` if the kernel waits for its reply. True when no other worker is left to
   * take the next request and main has not been told so yet: then the caller tells it.
   */
  markBusy(slot: number, owesReply: boolean, uniqueLow: number, uniqueHigh: number): boolean {
    const state = stateIndex(slot);
    Atomics.store(this.#words, state + UNIQUE_LOW, uniqueLow);
    Atomics.store(this.#words, state + UNIQUE_HIGH, uniqueHigh);
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

  /** Main: from its next request on, each worker serves the file system of this generation. Generations only grow. */
  announceGeneration(generation: number): void {
    Atomics.store(this.#words, GENERATION, generation);
    Atomics.notify(this.#words, GENERATION);
  }

  /** Worker, busy: its file system is not the newest. */
  isOutdated(slot: number): boolean {
    return Atomics.load(this.#words, GENERATION) !== Atomics.load(this.#words, stateIndex(slot) + SERVED_GENERATION);
  }

  /** Worker: blocks its thread until its file system is outdated, but not for longer than this. True if it is. */
  awaitAnnouncement(slot: number, patienceMs: number): boolean {
    const served = Atomics.load(this.#words, stateIndex(slot) + SERVED_GENERATION);
    if (patienceMs > 0) Atomics.wait(this.#words, GENERATION, served, patienceMs);
    return this.isOutdated(slot);
  }

  /** Main: the file system of this generation is on its way to the worker. */
  announceDelivery(slot: number, generation: number): void {
    const index = stateIndex(slot) + SENT_GENERATION;
    Atomics.store(this.#words, index, generation);
    Atomics.notify(this.#words, index);
  }

  /** Worker: blocks its thread until a newer file system than its own was sent, but not for longer. True if it was. */
  awaitDelivery(slot: number, patienceMs: number): boolean {
    const state = stateIndex(slot);
    const served = Atomics.load(this.#words, state + SERVED_GENERATION);
    const deadline = performance.now() + patienceMs;
    for (;;) {
      const sent = Atomics.load(this.#words, state + SENT_GENERATION);
      if (sent > served) return true;
      const leftMs = deadline - performance.now();
      if (leftMs <= 0) return false;
      Atomics.wait(this.#words, state + SENT_GENERATION, sent, leftMs);
    }
  }

  /** Worker: it serves the file system of this generation from now on. */
  adopt(slot: number, generation: number): void {
    Atomics.store(this.#words, stateIndex(slot) + SERVED_GENERATION, generation);
  }

  /**
   * Main, after `announceGeneration`: whether some worker may be in the middle of a request to an earlier file system. A
   * worker that is not busy asks `isOutdated` before it looks at anything.
   */
  isEarlierInUse(generation: number): boolean {
    for (let slot = 0; slot < MAX_WORKER_COUNT; slot++) {
      const index = stateIndex(slot);
      const state = Atomics.load(this.#words, index);
      const isBusy = state === BUSY || state === OWES_REPLY;
      if (isBusy && Atomics.load(this.#words, index + SERVED_GENERATION) < generation) return true;
    }
    return false;
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
      uniqueLow: Atomics.load(this.#words, stateIndex(slot) + UNIQUE_LOW) >>> 0,
      uniqueHigh: Atomics.load(this.#words, stateIndex(slot) + UNIQUE_HIGH) >>> 0,
    };
  }
}

function stateIndex(slot: number): number {
  return SLOTS + slot * SLOT_WORDS;
}
