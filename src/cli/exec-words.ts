/** The words behind `qcow2fs exec`. */

import { Qcow2fsError } from '../errors.ts';

export interface ExecWords {
  /** undefined for each snapshot. */
  readonly state: string | undefined;
  readonly volume: string | null;
  readonly command: readonly string[];
}

const SEPARATOR = '--';
const USAGE = 'qcow2fs exec IMAGE STATE [VOLUME] -- COMMAND..., or IMAGE --each-snapshot [VOLUME] -- COMMAND...';

/**
 * @param words those behind IMAGE, without options and without the first `--`
 * @param argv the whole command line: only there it is seen where that was
 * @throws Qcow2fsError USAGE.
 */
export function parseExecWords(words: readonly string[], argv: readonly string[], isEachSnapshot: boolean): ExecWords {
  const { names, command } = splitAtCommand(words, argv);
  if (command.length === 0) throw wrong('no command is given behind `--`');
  if ([...names, command[0]].includes('')) throw wrong('a name is empty');
  const [state, volume, ...others] = isEachSnapshot ? [undefined, ...names] : names;
  if (!isEachSnapshot && state === undefined) throw wrong('no state is given');
  if (others.length > 0) throw wrong(`there are too many words before \`--\` (${names.join(' ')})`);
  return { state, volume: volume ?? null, command };
}

/** A `--` before IMAGE ends the options, as for other commands: then the next one, which is a word, begins the command. */
function splitAtCommand(
  words: readonly string[],
  argv: readonly string[],
): { readonly names: readonly string[]; readonly command: readonly string[] } {
  const first = argv.indexOf(SEPARATOR);
  const wordCountBehind = first < 0 ? 0 : argv.length - first - 1;
  const isBeforeImage = wordCountBehind > words.length;
  const start = isBeforeImage ? words.indexOf(SEPARATOR) : words.length - wordCountBehind;
  if (start < 0) throw wrong('a `--` before IMAGE ends the options only, and there is none before the command');
  return { names: words.slice(0, start), command: words.slice(isBeforeImage ? start + 1 : start) };
}

function wrong(reason: string): Qcow2fsError {
  return new Qcow2fsError('USAGE', `${reason}: ${USAGE}`);
}
