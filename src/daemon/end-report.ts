/**
 * What the process of a scratch view says at its end to the `umount` that waits for it: in a file without a name, which
 * `umount` opens as a descriptor of the process, as long as that is there. One that was killed has said nothing.
 */

import fs from 'node:fs';
import path from 'node:path';
import { createWithoutName } from '../common/create-for-owner.ts';
import { createLogger } from '../common/logging.ts';
import { messageOf, Qcow2fsError } from '../errors.ts';
import { listProcFolder, readProcLink } from './proc-files.ts';

const log = createLogger('daemon');

const NAME = '.qcow2fs-end-';
/** The file has its size from the start: on a disk that has run full since, it can be written all the same. */
const REPORT_BYTES = 4096;

export interface EndReport {
  /** What did not go as it should have; none if all is well. */
  readonly problems: readonly string[];
}

/**
 * Returns the descriptor of a report that says nothing yet.
 * @param folders where the file may be, the best one first
 * @throws Qcow2fsError IO if it can be in none of them.
 */
export function createEndReport(folders: readonly string[]): number {
  let failure: unknown;
  for (const folder of folders) {
    try {
      return createEmpty(folder);
    } catch (error) {
      failure ??= error;
    }
  }
  throw new Qcow2fsError(
    'IO',
    `no file for a report can be made in ${folders.join(' or ')}: ${messageOf(failure)}; set TMPDIR to a folder that can be written`,
    { cause: failure },
  );
}

/** What is too long is left out. */
export function writeEndReport(fd: number, report: EndReport): void {
  let { problems } = report;
  let text = Buffer.from(JSON.stringify({ problems }));
  for (let limit = REPORT_BYTES; text.length > REPORT_BYTES; limit = Math.floor(limit / 2)) {
    problems = problems.map((problem) => problem.slice(0, limit));
    text = Buffer.from(JSON.stringify({ problems }));
  }
  fs.writeSync(fd, text, 0, text.length, 0);
}

/** Undefined as long as nothing was said. @throws what the system says. */
export function readEndReport(fd: number): EndReport | undefined {
  const bytes = Buffer.alloc(REPORT_BYTES);
  fs.readSync(fd, bytes, 0, bytes.length, 0);
  const text = bytes.toString('utf8', 0, bytes.indexOf(0) < 0 ? bytes.length : bytes.indexOf(0));
  return text === '' ? undefined : (JSON.parse(text) as EndReport);
}

/** Opens the report of a process, to be read when it has ended. Undefined if it has none, or for whatever reason cannot be opened. */
export function openEndReport(pid: number): number | undefined {
  const folder = `/proc/${pid}/fd`;
  const found = listProcFolder(folder).find((fd) => isReport(readProcLink(`${folder}/${fd}`)));
  try {
    return found === undefined ? undefined : fs.openSync(`${folder}/${found}`, fs.constants.O_RDONLY);
  } catch (error) {
    log('the report of process %d cannot be opened: %s', pid, messageOf(error));
    return undefined;
  }
}

function isReport(target: string | undefined): boolean {
  return target !== undefined && path.basename(target).startsWith(NAME);
}

function createEmpty(folder: string): number {
  const fd = createWithoutName(folder, NAME);
  try {
    fs.writeSync(fd, Buffer.alloc(REPORT_BYTES), 0, REPORT_BYTES, 0);
    return fd;
  } catch (error) {
    fs.closeSync(fd);
    throw error;
  }
}
