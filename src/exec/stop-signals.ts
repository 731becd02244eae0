/** Signals that want to end this process, while it runs commands that have to be ended first. */

import { exitCodeOfSignal } from '../common/exit-code-of-signal.ts';

export const STOP_SIGNALS = ['SIGINT', 'SIGQUIT', 'SIGTERM', 'SIGHUP'] as const;
export type StopSignal = (typeof STOP_SIGNALS)[number];

/** True for those of keys, which a terminal sends to all processes of its foreground group (termios(3), ISIG). */
export function isOfTerminal(signal: StopSignal): boolean {
  return signal === 'SIGINT' || signal === 'SIGQUIT';
}

export class StopSignals {
  #received: StopSignal | undefined;
  #listener: ((signal: StopSignal) => void) | undefined;
  readonly #take = (signal: NodeJS.Signals) => {
    this.#received = signal as StopSignal;
    this.#listener?.(this.#received);
  };

  constructor() {
    for (const signal of STOP_SIGNALS) process.on(signal, this.#take);
  }

  /** For a process that was ended by the last signal; undefined before the first. */
  get exitCode(): number | undefined {
    return this.#received && exitCodeOfSignal(this.#received);
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
    for (const signal of STOP_SIGNALS) process.off(signal, this.#take);
  }
}
