/** Work that has something to clean up when it is ended from outside. */

/** SIGQUIT is Ctrl-\ on a terminal. */
const STOPPING_SIGNALS = ['SIGINT', 'SIGQUIT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Runs `body`, which ends early and cleans up once its signal is aborted. This process then ends by the signal that came, as
 * whoever has started it expects.
 */
export async function untilSignal<Result>(body: (signal: AbortSignal) => Promise<Result>): Promise<Result> {
  const controller = new AbortController();
  let reason: NodeJS.Signals | undefined;
  const stop = (signal: NodeJS.Signals): void => {
    reason ??= signal;
    controller.abort();
  };
  for (const signal of STOPPING_SIGNALS) process.on(signal, stop);
  try {
    return await body(controller.signal);
  } finally {
    for (const signal of STOPPING_SIGNALS) process.off(signal, stop);
    if (reason !== undefined) process.kill(process.pid, reason);
  }
}
