/** Signals that want to end this process, while it runs commands that have to be ended first. */

import os from 'node:os';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
export type StopSignal = (typeof SIGNALS)[number];

export class StopSignals {
  #received: StopSignal | undefined;
  #listener: ((signal: StopSignal) => void) | undefined;
  readonly #take = (signal: NodeJS.Signals) => {
    this.#received = signal as StopSignal;
    this.#listener?.(this.#received);
  };

  constructor() {
    for (const signal of SIGNALS) process.on(signal, this.#take);
  }

  /** For a process that was ended by the last signal, as a shell tells it; undefined before the first. */
  get exitCode(): number | undefined {
    return this.#received === undefined ? undefined : 128 + os.constants.signals[this.#received];
  }

  /** Calls `listener` with each signal while `body` runs. */
  async during<Result>(listener: (signal: StopSignal) => void, body: () => Promise<Result>): Promise<Result> {
    this.#listener = listener;
    try {
      return await body();
    } finally {
      this.#listener = undefined;
    }
  }

  /** From now on they end this process again. */
  close(): void {
    for (const signal of SIGNALS) process.off(signal, this.#take);
  }
}
