/**
 * The one line of JSON with which a daemon tells the process that started it, on descriptor 3, whether the mount can be
 * used.
 */

import type { Readable } from 'node:stream';
import { type ErrorCode, messageOf, Qcow2fsError } from '../errors.ts';

/** The descriptor of the pipe in the daemon. */
export const REPORT_FD = 3;

export type StartReport =
  | { readonly isOk: true; readonly pid: number }
  | { readonly isOk: false; readonly code: ErrorCode; readonly message: string };

export function encodeReport(report: StartReport): string {
  return `${JSON.stringify(report)}\n`;
}

export function toFailureReport(error: unknown): StartReport {
  if (error instanceof Qcow2fsError) return { isOk: false, code: error.code, message: error.message };
  return { isOk: false, code: 'INTERNAL', message: `the daemon failed unexpectedly: ${messageOf(error)}` };
}

/** Waits for the line. Undefined when the stream ends without one: the daemon is dead. */
export async function readReport(stream: Readable): Promise<StartReport | undefined> {
  let text = '';
  stream.setEncoding('utf8');
  // Not `for await`: leaving that would destroy the stream, and the daemon notices the end of its starter by that.
  await new Promise<void>((resolve) => {
    stream.on('data', (piece: string) => {
      text += piece;
      if (text.includes('\n')) resolve();
    });
    stream.on('error', () => resolve());
    stream.on('close', () => resolve());
  });
  return text.includes('\n') ? (JSON.parse(text) as StartReport) : undefined;
}
