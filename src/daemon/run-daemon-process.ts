/** A daemon as a process: options in its arguments, a report to its starter, an exit code. */

import fs from 'node:fs';
import net from 'node:net';
import { tolerateLostStderr } from '../common/logging.ts';
import { type ImageSource, runDaemon } from './daemon.ts';
import { decodeArguments } from './daemon-arguments.ts';
import { encodeReport, REPORT_FD, toFailureReport } from './start-report.ts';
import type { Stopper } from './stopper.ts';

export async function runDaemonProcess(source: ImageSource): Promise<never> {
  // A log that is gone (a closed terminal, a logger that ended) must not take the mount with it.
  tolerateLostStderr();
  try {
    const options = decodeArguments(process.argv.slice(2));
    const exitCode = await runDaemon(options, source, (stopper) => reportReady(stopper, options.isForeground));
    process.exit(exitCode);
  } catch (error) {
    reportFailure(error);
    process.exit(1);
  }
}

/** Throws EPIPE when the starter is gone. */
function reportReady(stopper: Stopper, isForeground: boolean): void {
  fs.writeSync(REPORT_FD, encodeReport({ isOk: true, pid: process.pid }));
  if (!isForeground) {
    fs.closeSync(REPORT_FD);
    return;
  }
  // The starter never writes: the end of the stream is the end of the starter, also by SIGKILL.
  const starter = new net.Socket({ fd: REPORT_FD });
  starter.on('error', () => {});
  starter.on('close', () => {
    if (!stopper.isStopping) stopper.stop();
  });
  starter.resume();
}

function reportFailure(error: unknown): void {
  try {
    fs.writeSync(REPORT_FD, encodeReport(toFailureReport(error)));
  } catch {
    // Nobody is left to be told.
  }
}
