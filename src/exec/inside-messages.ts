/**
 * What the process outside and the one inside the namespaces tell each other, in lines on a socket. The outer one sends the task, for
 * which an argument may be too short (MAX_ARG_STRLEN of execve(2) is 128 KiB), then the names of signals that it got, and the end of
 * the socket ends everything; the inner one sends reports.
 */

import { type ErrorCode, messageOf, Qcow2fsError } from '../errors.ts';

/** The descriptor of the socket in the process inside. */
export const OUTSIDE_FD = 3;

export interface InsideTask {
  /** As the user calls it. */
  readonly state: string;
  readonly volume: string | null;
  readonly command: readonly string[];
  /** Root of a user namespace only: the kernel mounts no block devices for that. */
  readonly isOrdinaryUser: boolean;
}

export type InsideReport =
  /** The command is about to be started. */
  | { readonly kind: 'started' }
  /** Of the command, or of the signal that came before it. */
  | { readonly kind: 'ended'; readonly exitCode: number }
  | { readonly kind: 'failed'; readonly code: ErrorCode; readonly message: string };

export function encodeTask(task: InsideTask): string {
  return `${JSON.stringify(task)}\n`;
}

export function decodeTask(line: string): InsideTask {
  return JSON.parse(line) as InsideTask;
}

export function encodeReport(report: InsideReport): string {
  return `${JSON.stringify(report)}\n`;
}

export function toFailureReport(error: unknown): InsideReport {
  if (error instanceof Qcow2fsError) return { kind: 'failed', code: error.code, message: error.message };
  return { kind: 'failed', code: 'INTERNAL', message: messageOf(error) };
}
