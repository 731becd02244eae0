/** One line on a terminal that shows how far a long command is. */

/** Nothing is shown of what takes less. */
const QUIET_MS = 1000;
const INTERVAL_MS = 100;
const BAR_WIDTH = 40;

export class ProgressLine {
  readonly #stream: NodeJS.WriteStream;
  readonly #startedAtMs = performance.now();
  #shownAtMs = Number.NEGATIVE_INFINITY;
  #isShown = false;

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
  }

  /** Rewrites the line, if the stream is a terminal and it is time for it. `fraction`: 0 to 1. */
  show(fraction: number): void {
    if (!this.#stream.isTTY) return;
    const now = performance.now();
    if (now - this.#startedAtMs < QUIET_MS || now - this.#shownAtMs < INTERVAL_MS) return;
    this.#shownAtMs = now;
    this.#isShown = true;
    this.#stream.write(`\r${progressBar(fraction)}`);
  }

  /** Removes the line. */
  clear(): void {
    if (this.#isShown) this.#stream.write('\r\u001b[K');
    this.#isShown = false;
  }
}

/** `[#####     ]  50%` */
export function progressBar(fraction: number): string {
  const percent = Math.floor(Math.min(1, Math.max(0, fraction)) * 100);
  const filled = Math.floor((percent * BAR_WIDTH) / 100);
  return `[${'#'.repeat(filled).padEnd(BAR_WIDTH)}] ${String(percent).padStart(3)}%`;
}
