/** `qcow2fs exec`: a command in the file system of a state, or of each. */

import type { Command } from 'commander';
import { warn } from '../common/logging.ts';
import { Qcow2fsError } from '../errors.ts';
import { listStates, runInEachState, type StateOfImage, type StateResult } from '../exec/each-state.ts';
import { requireNamespaces } from '../exec/namespaces.ts';
import { type ExecHooks, type ExecTask, runInState } from '../exec/run-in-state.ts';
import { StopSignals } from '../exec/stop-signals.ts';
import { forgetLayerKeys } from '../open-image/layer-key.ts';
import { unlockImages } from '../open-image/layer-keys.ts';
import { addChainOptions } from './chain-options.ts';
import { type ExecWords, parseExecWords } from './exec-words.ts';
import { toPrintable } from './format.ts';
import { type ChainFlags, toChainOptions } from './mount-flags.ts';
import { parseSize } from './parse-size.ts';
import { passphraseSource } from './passphrases.ts';
import { DEFAULT_MAX_DELTA } from './scratch-command.ts';

interface ExecFlags extends ChainFlags {
  readonly eachSnapshot?: boolean;
  readonly json?: boolean;
  readonly maxDelta: string;
  readonly passphraseFile?: readonly string[];
}

/** As env(1) and timeout(1): what went wrong before the command was started. */
const NOT_STARTED = 125;

const WORDS = 'STATE (current, id:N, name:X or a snapshot name), VOLUME (p1, VG-LV, a label or a UUID), COMMAND';
const EXIT_CODES =
  '\nExit codes: that of COMMAND; 128 and the number of the signal that ended it; 125 COMMAND was not started, ' +
  '126 it cannot be run, 127 there is no such command, 2 wrong usage. With --each-snapshot: 0 if COMMAND ended with 0 in every ' +
  'state, 1 if not.';
const HEADINGS = ['STATE', 'DATE', 'EXIT', 'LAST LINE'] as const;
const DATE_WIDTH = '2026-11-16T02:00:00Z'.length;
const NOTHING = '-';

/** Adds the command; `exit` is called with the exit code. */
export function addExecCommand(program: Command, exit: (code: number) => void): void {
  const command = program
    .command('exec')
    .description('run COMMAND in a file system of a state, as it is after its recovery; IMAGE stays as it is')
    .usage('[options] IMAGE STATE [VOLUME] -- COMMAND...')
    .argument('<IMAGE>', 'a qcow2 image')
    .argument('[WORD...]', WORDS)
    .option('--each-snapshot', 'run it in each snapshot and in the current state, without STATE; print a table')
    .option('--json', 'with --each-snapshot: print one JSON array')
    .option('--max-delta <SIZE>', 'the most that changes may take: a number, with K, M, G or T', DEFAULT_MAX_DELTA);
  addChainOptions(command)
    .addHelpText('after', EXIT_CODES)
    .action(async (image: string, words: readonly string[], flags: ExecFlags) => {
      const isEachSnapshot = flags.eachSnapshot === true;
      if (flags.json === true && !isEachSnapshot) throw new Qcow2fsError('USAGE', '--json is about --each-snapshot');
      exit(await startedOr125(execute(image, parseExecWords(words, process.argv, isEachSnapshot), flags)));
    });
}

async function startedOr125(running: Promise<number>): Promise<number> {
  try {
    return await running;
  } catch (error) {
    if (!(error instanceof Qcow2fsError) || error.code === 'USAGE' || error.code === 'INTERNAL') throw error;
    warn(toPrintable(error.message));
    return NOT_STARTED;
  }
}

async function execute(imagePath: string, { state, volume, command }: ExecWords, flags: ExecFlags): Promise<number> {
  const maxDeltaBytes = parseSize(flags.maxDelta, '--max-delta');
  const chain = toChainOptions(flags);
  await requireNamespaces();
  const states = state === undefined ? listStates(imagePath) : undefined;
  const keys = await unlockImages([imagePath], passphraseSource(flags.passphraseFile ?? []), chain);
  const task: ExecTask = { imagePath, chain, keys, volume, command, maxDeltaBytes };
  const signals = new StopSignals();
  const hooks = { signals, onMessage: onceEach((line) => process.stderr.write(`${line}\n`)) };
  try {
    if (states !== undefined) return await executeInEach(task, states, hooks, flags.json === true);
    return await runInState(task, state ?? '', { ...hooks, streams: 'inherit' });
  } finally {
    signals.close();
    forgetLayerKeys(keys);
  }
}

async function executeInEach(
  task: ExecTask,
  states: readonly StateOfImage[],
  hooks: Omit<ExecHooks, 'streams'>,
  isJson: boolean,
): Promise<number> {
  const toLine = rowFormat(states);
  const results: StateResult[] = [];
  for await (const result of runInEachState(task, states, hooks)) {
    if (!isJson && results.length === 0) process.stdout.write(toLine(HEADINGS));
    if (!isJson) process.stdout.write(toLine(toCells(result)));
    results.push(result);
  }
  if (isJson)
    process.stdout.write(
      `${JSON.stringify(
        results.map(({ label: _, ...rest }) => rest),
        null,
        2,
      )}\n`,
    );
  return hooks.signals.exitCode ?? (results.every(({ exitCode }) => exitCode === 0) ? 0 : 1);
}

function toCells({ label, date, exitCode, lastLine, error }: StateResult): string[] {
  const exit = exitCode === null ? NOTHING : String(exitCode);
  return [toPrintable(label), date ?? NOTHING, exit, toPrintable(error ?? lastLine) || NOTHING];
}

/** Columns as in `formatRows`, whose widths are known before the first row. */
function rowFormat(states: readonly StateOfImage[]): (cells: readonly string[]) => string {
  const labels = [HEADINGS[0], ...states.map(({ label }) => toPrintable(label))];
  const widths = [Math.max(...labels.map((label) => label.length)), DATE_WIDTH, HEADINGS[2].length, 0];
  return (cells) =>
    `${cells
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd()}\n`;
}

/** What is wrong with the image is so in each of its states. */
function onceEach(report: (line: string) => void): (line: string) => void {
  const known = new Set<string>();
  return (line) => {
    if (known.has(line)) return;
    known.add(line);
    report(line);
  };
}
