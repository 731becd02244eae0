/** Where a daemon in the background writes its warnings: its terminal may be closed, so never there. */

import type { ChildProcess } from 'node:child_process';
import fs from 'node:fs';
import { createForOwner } from '../common/create-for-owner.ts';
import { spawnChild } from '../common/spawn-child.ts';
import { messageOf, Qcow2fsError, systemCodeOf } from '../errors.ts';
import { fileIdentity } from '../storage/file-storage.ts';
import type { MountOptions } from './mount-options.ts';

/** What becomes the daemon's stderr, and `close` for this process's copy of it once the daemon runs. */
export interface DaemonLog {
  readonly stderr: number | 'ignore' | 'pipe' | NonNullable<ChildProcess['stdin']>;
  close(): void;
}

const REMEDY = 'name a file in a folder that exists and that this user may write to';
const LOGGERS = ['/usr/bin/logger', '/bin/logger'];
/** The socket of the system log; where nothing listens, logger(1) could only fail. */
const SYSTEM_LOG = '/dev/log';

/**
 * The file if one is named, otherwise the system log through logger(1). A machine that has neither (a small container)
 * gets no warnings from a daemon in the background: readers see the errors all the same.
 * @throws Qcow2fsError IO, REFUSED.
 */
export function openDaemonLog({ logFile, imagePaths }: MountOptions): DaemonLog {
  if (logFile !== undefined) return openLogFile(logFile, imagePaths);
  const logger = LOGGERS.find((path) => fs.existsSync(path));
  if (logger === undefined || !fs.existsSync(SYSTEM_LOG)) return { stderr: 'ignore', close: () => {} };
  return openSystemLog(logger);
}

function openLogFile(logFile: string, imagePaths: readonly string[]): DaemonLog {
  try {
    const stat = fs.statSync(logFile, { throwIfNoEntry: false });
    if (stat !== undefined) requireLogFile(logFile, stat, imagePaths);
    const fd = openToAppend(logFile);
    return { stderr: fd, close: () => fs.closeSync(fd) };
  } catch (cause) {
    if (cause instanceof Qcow2fsError) throw cause;
    throw new Qcow2fsError('IO', `the log file ${logFile} cannot be opened: ${messageOf(cause)}; ${REMEDY}`, {
      data: { file: logFile },
      cause,
    });
  }
}

/** The next mount may write to the same one. */
function openToAppend(logFile: string): number {
  try {
    return createForOwner(logFile, fs.constants.O_WRONLY | fs.constants.O_APPEND);
  } catch (error) {
    if (systemCodeOf(error) !== 'EEXIST') throw error;
    return fs.openSync(logFile, 'a', 0o600);
  }
}

function requireLogFile(logFile: string, stat: fs.Stats, imagePaths: readonly string[]): void {
  const refuse = (reason: string) =>
    new Qcow2fsError('REFUSED', `the log file ${logFile} ${reason}`, { data: { file: logFile } });
  if (stat.isDirectory()) throw refuse('is a directory; name a file in it');
  // A FIFO blocks who opens it until it is read, and who reads it decides about the mount.
  if (!stat.isFile() && !stat.isCharacterDevice()) throw refuse('is no regular file; name one, or one to be created');
  const identity = fileIdentity(stat);
  const image = imagePaths.find((imagePath) => identityOf(imagePath) === identity);
  if (image !== undefined) throw refuse(`is the image ${image}, which is never written to; name another file`);
}

/** undefined for an image that cannot be reached: the daemon says so. */
function identityOf(imagePath: string): string | undefined {
  try {
    return fileIdentity(fs.statSync(imagePath));
  } catch {
    return undefined;
  }
}

/** It ends with the daemon, whose stderr is its stdin. */
function openSystemLog(logger: string): DaemonLog {
  const child = spawnChild(logger, ['-t', 'qcow2fs'], {
    detached: true,
    cwd: '/',
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  child.on('error', () => {});
  child.unref();
  child.stdin.on('error', () => {});
  return { stderr: child.stdin, close: () => child.stdin.destroy() };
}
