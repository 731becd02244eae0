/**
 * The workers of a mount, as main sees them: starts them, adds to them when all are busy, replaces one that crashes, and
 * knows when the last has ended.
 */

import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { createLogger, warn } from '../common/logging.ts';
import { messageOf, Qcow2fsError } from '../errors.ts';
import { ERRNO } from '../filesystem/errno.ts';
import { writeDevice } from '../fuse/device.ts';
import type { ServeOptions } from '../fuse/exchange.ts';
import type { SessionEnd } from '../fuse/session-loop.ts';
import { encodeOutHeader, OUT_HEADER_BYTES } from '../fuse/wire/headers.ts';
import {
  createControlMemory,
  type LostRequest,
  MAX_WORKER_COUNT,
  START_WORKER_COUNT,
  WorkerControl,
} from '../fuse/worker-control.ts';
import type { ServedImages } from './served-images.ts';
import { StarvationWatch } from './starvation.ts';
import { withResolvers } from './with-resolvers.ts';
import type { Generation, WorkerData, WorkerMessage } from './worker-messages.ts';

const log = createLogger('daemon');

/**
 * A request leaves next to nothing for the garbage collector, which by default lets 16 MiB of that pile up in each thread
 * before it looks.
 */
const WORKER_LIMITS = { maxYoungGenerationSizeMb: 2 };

/** How often it is looked whether a worker is still busy with an earlier generation. */
const RETIREMENT_POLL_MS = 20;

/** Workers that may crash one after the other without one reply in between, until no more are started. */
const MAX_VAIN_CRASH_COUNT = 5;

/** open(2), of this process or of all. */
const OUT_OF_FILES = /\b(EMFILE|ENFILE)\b/;

/** `failed`: no worker is left, and more of them would not help. */
export type PoolEnd = SessionEnd | 'failed';

export interface WorkerPoolOptions {
  /** The script of a worker: it gets `WorkerData` and posts `WorkerMessage`s. */
  readonly entry: URL;
  readonly served: ServedImages;
  readonly options: ServeOptions;
  /** A thread is gone, and may have left something half done. */
  readonly onThreadEnd?: (threadId: number) => void;
}

interface PoolWorker {
  readonly thread: Worker;
  /** It has had its file system. */
  isReady: boolean;
}

export class WorkerPool {
  /** Resolves when the last worker has ended. */
  readonly ended: Promise<PoolEnd>;
  readonly #options: WorkerPoolOptions;
  readonly #memory = createControlMemory();
  readonly #control = new WorkerControl(this.#memory);
  readonly #workers = new Map<number, PoolWorker>();
  readonly #starvation = new StarvationWatch(this.#control, () => this.#grow());
  readonly #ready = withResolvers<void>();
  readonly #initialized = withResolvers<void>();
  readonly #resolveEnded: (end: PoolEnd) => void;
  #isInitialized = false;
  /** -1 before the mount: no request can be lost then. */
  #fd = -1;
  #generation: Generation;
  #canStartMore = true;
  #end: SessionEnd | undefined;
  #vainCrashCount = 0;
  #replyCountAtCrash = -1;

  constructor(options: WorkerPoolOptions) {
    this.#options = options;
    this.#generation = { number: 0, served: options.served };
    const ended = withResolvers<PoolEnd>();
    this.ended = ended.promise;
    this.#resolveEnded = ended.resolve;
    // Both may fail before somebody waits for them.
    this.#ready.promise.catch(() => {});
    this.#initialized.promise.catch(() => {});
  }

  /**
   * Starts workers that wait for the mount; resolves when each has its file system.
   * @throws Qcow2fsError with what kept a worker from that.
   */
  async start(): Promise<void> {
    for (let slot = 0; slot < START_WORKER_COUNT; slot++) {
      // Each takes this thread more than ten milliseconds: signals are heard in between, and that the one before has failed.
      if (slot > 0) await Promise.race([turn(), this.#ready.promise]);
      this.#startWorker(slot);
    }
    return this.#ready.promise;
  }

  /**
   * Lets the workers serve the mount of the open device `fd`; resolves when FUSE_INIT is answered, and the tree with it.
   * @throws Qcow2fsError MOUNT.
   */
  serveMount(fd: number): Promise<void> {
    this.#fd = fd;
    this.#control.announceMount(fd);
    return this.#initialized.promise;
  }

  /**
   * Lets all workers serve something newer from their next request on. Resolves when none of them looks at anything earlier
   * any more.
   */
  async replace(served: ServedImages): Promise<void> {
    const number = this.#generation.number + 1;
    this.#generation = { number, served };
    this.#control.announceGeneration(number);
    while (this.#workers.size > 0 && this.#control.isEarlierInUse(number)) await sleep(RETIREMENT_POLL_MS);
  }

  /** Ends workers that still wait for the mount. Those in read(2) cannot be ended but by the end of the mount. */
  async abandon(): Promise<void> {
    this.#end ??= 'unmounted';
    await Promise.all([...this.#workers.values()].map(({ thread }) => thread.terminate()));
  }

  get #maxWorkerCount(): number {
    return this.#generation.served.isHeavy ? START_WORKER_COUNT : MAX_WORKER_COUNT;
  }

  #startWorker(slot: number): void {
    const { entry, options } = this.#options;
    const workerData: WorkerData = { slot, generation: this.#generation, control: this.#memory, options };
    const worker = { thread: new Worker(entry, { workerData, resourceLimits: WORKER_LIMITS }), isReady: false };
    this.#workers.set(slot, worker);
    log('worker %d starts', slot);
    worker.thread.on('message', (message: WorkerMessage) => this.#onMessage(slot, worker, message));
    worker.thread.on('error', (error) => this.#onError(error));
    // It is -1 once the thread has ended.
    const { threadId } = worker.thread;
    worker.thread.on('exit', (code) => {
      this.#options.onThreadEnd?.(threadId);
      this.#onExit(slot, worker, code);
    });
  }

  #onMessage(slot: number, worker: PoolWorker, message: WorkerMessage): void {
    switch (message.type) {
      case 'ready':
        worker.isReady = true;
        if (this.#workers.size >= START_WORKER_COUNT && [...this.#workers.values()].every(({ isReady }) => isReady)) {
          this.#ready.resolve();
        }
        break;
      case 'failed':
        this.#ready.reject(new Qcow2fsError(message.code, message.message));
        if (this.#isInitialized) warn(`a worker thread cannot start: ${message.message}`);
        break;
      case 'initialized':
        this.#onInitialized(message.outcome);
        break;
      case 'outdated':
        worker.thread.postMessage(this.#generation);
        this.#control.announceDelivery(slot, this.#generation.number);
        break;
      case 'growth-wanted':
        if (this.#canStartMore && this.#workers.size < this.#maxWorkerCount) this.#starvation.begin();
        break;
      case 'ended':
        this.#end ??= message.end;
        break;
    }
  }

  #onError(error: unknown): void {
    const message = messageOf(error);
    // The code of what came from another thread, or before there was one (ERR_WORKER_INIT_FAILED), says less.
    if (this.#isInitialized || !OUT_OF_FILES.test(message)) {
      warn(`a worker thread crashed: ${message}`);
      return;
    }
    const what =
      'a worker thread cannot start: too many files are open (ulimit -n and fs.file-max say how many may be)';
    const failure = new Qcow2fsError('IO', what, { cause: error });
    this.#ready.reject(failure);
    this.#initialized.reject(failure);
  }

  #onInitialized(outcome: 'accepted' | 'refused'): void {
    if (outcome === 'accepted') {
      this.#isInitialized = true;
      this.#initialized.resolve();
    } else {
      this.#initialized.reject(
        new Qcow2fsError('MOUNT', 'this kernel is too old: its FUSE protocol is below 7.23, Linux 3.15'),
      );
    }
  }

  #onExit(slot: number, worker: PoolWorker, exitCode: number): void {
    this.#workers.delete(slot);
    const lost = this.#control.clearSlot(slot);
    if (lost !== undefined) this.#answerLostRequest(lost);
    const consequence = lost === undefined ? '' : '; its request failed with EIO';
    if (this.#end === undefined) this.#onCrash(slot, worker, `exit code ${exitCode}${consequence}`);
    if (this.#workers.size === 0) this.#finish();
  }

  /** The caller of the request gets an error instead of waiting for ever. */
  #answerLostRequest(lost: LostRequest): void {
    const reply = Buffer.alloc(OUT_HEADER_BYTES);
    const length = encodeOutHeader(reply, 0, ERRNO.EIO, lost.uniqueLow, lost.uniqueHigh);
    writeDevice(this.#fd, reply, length);
  }

  #onCrash(slot: number, worker: PoolWorker, circumstances: string): void {
    const error = new Qcow2fsError('INTERNAL', 'a worker thread ended before the mount was ready');
    this.#ready.reject(error);
    this.#initialized.reject(error);
    // A mount that never worked is given up by whoever waits for it.
    if (!this.#isInitialized) return;
    warn(`a worker thread ended unexpectedly: ${circumstances}`);
    const { replyCount } = this.#control;
    this.#vainCrashCount = replyCount === this.#replyCountAtCrash ? this.#vainCrashCount + 1 : 1;
    this.#replyCountAtCrash = replyCount;
    // What could not even start would not do so the next time.
    if (!worker.isReady || this.#vainCrashCount > MAX_VAIN_CRASH_COUNT) this.#canStartMore = false;
    if (this.#canStartMore) this.#startWorker(slot);
    else warn(`crashed worker threads are not replaced any more: ${this.#workers.size} are left`);
  }

  #grow(): void {
    if (this.#end !== undefined || !this.#canStartMore) return;
    for (let slot = 0; slot < this.#maxWorkerCount; slot++) {
      if (!this.#workers.has(slot)) {
        this.#startWorker(slot);
        return;
      }
    }
  }

  #finish(): void {
    this.#starvation.stop();
    this.#resolveEnded(this.#end ?? 'failed');
  }
}
