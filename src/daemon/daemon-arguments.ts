/**
 * What a daemon is told, as the arguments of its process: its options as JSON, then the images, as one argument (MAX_ARG_STRLEN of
 * execve(2), 128 KiB) may be too short for all that can be mounted at once.
 */

import type { DaemonOptions } from './mount-options.ts';

export function encodeArguments({ imagePaths, ...others }: DaemonOptions): string[] {
  return [JSON.stringify(others), ...imagePaths];
}

export function decodeArguments([json = '', ...imagePaths]: readonly string[]): DaemonOptions {
  return { ...(JSON.parse(json) as Omit<DaemonOptions, 'imagePaths'>), imagePaths };
}
