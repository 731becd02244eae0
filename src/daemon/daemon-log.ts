/** Where a daemon in the background writes its warnings: its terminal may be closed, so never there. */

import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import { messageOf, Qcow2fsError } from '../errors.ts';

/** What becomes the daemon's stderr, and `close` for this process's copy of it once the daemon runs. */
export interface DaemonLog {
  readonly stderr: number | 'ignore' | NonNullable<ChildProcess['stdin']>;
  close(): void;
}

const LOGGERS = ['/usr/bin/logger', '/bin/logger'];
/** The socket of the system log; where nothing listens, logger(1) could only fail. */
const SYSTEM_LOG = '/dev/log';

/**
 * The file if one is named, otherwise the system log through logger(1). A machine that has neither (a small container)
 * gets no warnings from a daemon in the background: readers see the errors all the same.
 * @throws Qcow2fsError IO.
 */
export function openDaemonLog(logFile: string | undefined): DaemonLog {
  if (logFile !== undefined) return openLogFile(logFile);
  const logger = LOGGERS.find((path) => fs.existsSync(path));
  if (logger === undefined || !fs.existsSync(SYSTEM_LOG)) return { stderr: 'ignore', close: () => {} };
  return openSystemLog(logger);
}

function openLogFile(logFile: string): DaemonLog {
  try {
    const fd = fs.openSync(logFile, 'a', 0o600);
    return { stderr: fd, close: () => fs.closeSync(fd) };
  } catch (cause) {
    throw new Qcow2fsError('IO', `the log file ${logFile} cannot be opened: ${messageOf(cause)}`, {
      data: { file: logFile },
      cause,
    });
  }
}

/** It ends with the daemon, whose stderr is its stdin. */
function openSystemLog(logger: string): DaemonLog {
  const child = spawn(logger, ['-t', 'qcow2fs'], {
    detached: true,
    cwd: '/',
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  child.on('error', () => {});
  child.unref();
  child.stdin.on('error', () => {});
  return { stderr: child.stdin, close: () => child.stdin.destroy() };
}
