/** The words behind `qcow2fs exec`. */

import { Qcow2fsError } from '../errors.ts';

export interface ExecWords {
  /** undefined for each snapshot. */
  readonly state: string | undefined;
  readonly volume: string | null;
  readonly command: readonly string[];
}

const USAGE = 'qcow2fs exec IMAGE STATE [VOLUME] -- COMMAND..., or IMAGE --each-snapshot [VOLUME] -- COMMAND...';

/**
 * @param words those behind IMAGE, without options and without `--`
 * @param argv the whole command line: only there it is seen where `--` was
 * @throws Qcow2fsError USAGE.
 */
export function parseExecWords(words: readonly string[], argv: readonly string[], isEachSnapshot: boolean): ExecWords {
  const separator = argv.indexOf('--');
  const commandLength = separator < 0 ? 0 : argv.length - separator - 1;
  if (commandLength === 0) throw wrong('no command is given behind `--`');
  const names = words.slice(0, words.length - commandLength);
  const command = words.slice(words.length - commandLength);
  if ([...names, command[0]].includes('')) throw wrong('a name is empty');
  const [state, volume, ...others] = isEachSnapshot ? [undefined, ...names] : names;
  if (!isEachSnapshot && state === undefined) throw wrong('no state is given');
  if (others.length > 0) throw wrong(`there are too many words before \`--\` (${names.join(' ')})`);
  return { state, volume: volume ?? null, command };
}

function wrong(reason: string): Qcow2fsError {
  return new Qcow2fsError('USAGE', `${reason}: ${USAGE}`);
}
