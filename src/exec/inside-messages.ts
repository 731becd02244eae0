/**
 * What the process outside and the one inside the namespaces tell each other: the task in the second argument, then lines on a
 * socket. The inner one sends reports; the outer one names of signals that it got, and the end of the socket ends everything.
 */

import { type ErrorCode, messageOf, Qcow2fsError } from '../errors.ts';

/** The descriptor of the socket in the process inside. */
export const OUTSIDE_FD = 3;

export interface InsideTask {
  /** Where the state is mounted, and where its volume is to be. */
  readonly mountpoint: string;
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
  | { readonly kind: 'ended'; readonly exitCode: number }
  | { readonly kind: 'failed'; readonly code: ErrorCode; readonly message: string };

export function encodeReport(report: InsideReport): string {
  return `${JSON.stringify(report)}\n`;
}

export function toFailureReport(error: unknown): InsideReport {
  if (error instanceof Qcow2fsError) return { kind: 'failed', code: error.code, message: error.message };
  return { kind: 'failed', code: 'INTERNAL', message: messageOf(error) };
}
