/** What a case of the suite gets, and what the cases share. */

import type { Adapter } from './adapter.ts';
import type { StateTruth } from './images.ts';

export interface CaseContext {
  readonly files: Adapter;
  /** The current state first. */
  readonly states: readonly StateTruth[];
  readonly image: string;
  /** Another image, shown for as long as `body` runs. */
  showing(image: 'cut' | 'crowded' | 'copy', body: (files: Adapter, path: string) => Promise<void>): Promise<void>;
}

export type Case = (context: CaseContext) => Promise<void>;

/** The errno that a promise fails with. */
export async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return 'no error';
  } catch (error) {
    const { code } = error as { code: string };
    // libuv has no name for it.
    return code === 'Unknown system error -116' ? 'ESTALE' : code;
  }
}

export function disk({ folder }: StateTruth): string {
  return `${folder}/disk.raw`;
}

export function jsonOf(bytes: Buffer): Record<string, unknown> {
  return JSON.parse(bytes.toString()) as Record<string, unknown>;
}
