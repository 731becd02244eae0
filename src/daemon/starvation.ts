/**
 * Decides when the pool needs one more worker. A worker that takes the last idle place tells main, but that alone means
 * little: under load there are moments without an idle worker all the time, also with a single reader whose worker is
 * between its reply and its next read(2). So main looks again and again, and only believes what it sees every time.
 */

import type { WorkerControl } from '../fuse/worker-control.ts';

const SAMPLE_INTERVAL_MS = 5;
const SAMPLE_COUNT = 5;
/** After a false alarm workers do not tell main for so long: their messages would be many. */
const REST_MS = 100;

export class StarvationWatch {
  readonly #control: WorkerControl;
  readonly #onStarved: () => void;
  #timer: NodeJS.Timeout | undefined;
  #starvedSampleCount = 0;

  /** `onStarved` is called when the pool should get one more worker. */
  constructor(control: WorkerControl, onStarved: () => void) {
    this.#control = control;
    this.#onStarved = onStarved;
  }

  /** A worker took the last idle place. */
  begin(): void {
    if (this.#timer !== undefined) return;
    this.#starvedSampleCount = 0;
    this.#timer = setInterval(() => this.#sample(), SAMPLE_INTERVAL_MS);
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #sample(): void {
    if (this.#control.idleCount > 0) {
      this.stop();
      this.#timer = setTimeout(() => this.#listenAgain(), REST_MS);
      return;
    }
    this.#starvedSampleCount++;
    if (this.#starvedSampleCount < SAMPLE_COUNT) return;
    this.stop();
    this.#control.acceptGrowthWishes();
    this.#onStarved();
  }

  /** In this order: a worker that takes the last place after the look tells main itself. */
  #listenAgain(): void {
    this.stop();
    this.#control.acceptGrowthWishes();
    if (this.#control.idleCount === 0) this.begin();
  }
}
