/**
 * Loaded into every Node.js process of a mount (NODE_OPTIONS); in the main thread of its daemon it keeps the longest time,
 * in milliseconds, that the event loop did not turn, in the file EVENT_LOOP_REPORT. Before that thread hears signals, it has nothing to
 * be free for: then Node.js loads the program.
 *
 * What counts is what the thread did or waited for itself: the time that it could run and got no CPU, as on a busy machine, is
 * taken off (/proc/self/schedstat: time on a CPU, time in the run queue, both in ns).
 */

import fs from 'node:fs';
import { isMainThread } from 'node:worker_threads';

const TURN_MS = 2;

if (isMainThread && process.argv[1]?.endsWith('daemon/main.js')) watch(process.env.EVENT_LOOP_REPORT);

function watch(report) {
  const fd = fs.openSync(report, 'w');
  let longestMs = 0;
  let last = look();
  setInterval(() => {
    const now = look();
    if (process.listenerCount('SIGTERM') === 0) {
      last = now;
      return;
    }
    const blockedMs = now.clockMs - last.clockMs - (now.queuedMs - last.queuedMs) - TURN_MS;
    if (blockedMs > longestMs) {
      longestMs = blockedMs;
      fs.writeSync(fd, longestMs.toFixed(1).padEnd(10), 0);
    }
    last = look();
  }, TURN_MS).unref();
}

function look() {
  const [, queuedNs] = fs.readFileSync('/proc/thread-self/schedstat', 'utf8').split(' ');
  return { clockMs: performance.now(), queuedMs: Number(queuedNs) / 1e6 };
}
