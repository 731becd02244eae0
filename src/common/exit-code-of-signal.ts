import os from 'node:os';

/** Of a process that a signal ended, as a shell tells it. */
export function exitCodeOfSignal(signal: NodeJS.Signals): number {
  return 128 + os.constants.signals[signal];
}
