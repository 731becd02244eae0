/**
 * Loaded into every Node.js process of a mount (NODE_OPTIONS). Of the main thread of its daemon it keeps in the file EVENT_LOOP_REPORT what
 * a turn of the event loop took: `computedMs`, the most time on a CPU, and `waitCount`, how often it waited longer than
 * EVENT_LOOP_WAIT_MS. Before that thread hears signals, it has nothing to be free for: then Node.js loads the program.
 *
 * The time that it could run and got no CPU, as on a busy machine, is no waiting (/proc/self/schedstat: time on a CPU, time in the
 * run queue, both in ns). That the host of a virtual machine did not wake it in time shows nowhere, and passes for waiting.
 */

import fs from 'node:fs';
import { isMainThread } from 'node:worker_threads';

const TURN_MS = 2;

if (isMainThread && process.argv[1]?.endsWith('daemon/main.js')) {
  watch(process.env.EVENT_LOOP_REPORT, Number(process.env.EVENT_LOOP_WAIT_MS));
}

function watch(file, maxWaitMs) {
  const report = { turnCount: 0, computedMs: 0, waitCount: 0 };
  let last = look();
  setInterval(() => {
    const now = look();
    if (process.listenerCount('SIGTERM') > 0) {
      const computedMs = now.computedMs - last.computedMs;
      const waitedMs = now.clockMs - last.clockMs - computedMs - (now.queuedMs - last.queuedMs) - TURN_MS;
      report.turnCount++;
      report.computedMs = Math.max(report.computedMs, computedMs);
      if (waitedMs > maxWaitMs) report.waitCount++;
    }
    last = look();
  }, TURN_MS).unref();
  process.on('exit', () => fs.writeFileSync(file, JSON.stringify(report)));
}

function look() {
  const [computedNs, queuedNs] = fs.readFileSync('/proc/thread-self/schedstat', 'utf8').split(' ');
  return { clockMs: performance.now(), computedMs: Number(computedNs) / 1e6, queuedMs: Number(queuedNs) / 1e6 };
}
