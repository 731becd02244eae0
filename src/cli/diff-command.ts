/** `qcow2fs diff`: where two states differ. */

import type { Command } from 'commander';
import { warn } from '../common/logging.ts';
import { writerOf } from '../daemon/writer-of.ts';
import { diffStates, type PlacedVolume, type StateDiff } from '../open-image/diff-states.ts';
import { addChainOptions } from './chain-options.ts';
import { changeBar } from './change-bar.ts';
import { toJsonLines } from './describe-commands.ts';
import { formatRows, formatSize, toPrintable } from './format.ts';
import { type ChainFlags, toChainOptions } from './mount-flags.ts';
import { passphraseSource } from './passphrases.ts';
import { ProgressLine } from './progress-line.ts';
import { splitAtVolumes } from './split-at-volumes.ts';
import { writePieces } from './write-pieces.ts';

interface DiffFlags extends ChainFlags {
  readonly exact?: boolean;
  readonly json?: boolean;
  readonly volumes?: boolean;
  readonly passphraseFile?: readonly string[];
}

const STATE = 'current, id:N, name:X or a snapshot name';
const NOTHING = '-';
const INCOMPLETE = 1;

/** Adds the command; `exit` is called with the exit code if something could not be compared. */
export function addDiffCommand(program: Command, exit: (code: number) => void): void {
  const command = program
    .command('diff')
    .description('show where two states differ, from the tables of IMAGE alone')
    .argument('<IMAGE>', 'a qcow2 image')
    .argument('<A>', STATE)
    .argument('<B>', STATE)
    .option('--json', 'print one JSON object')
    .option('--exact', 'read what was rewritten, and leave out what has the same bytes as before')
    .option('--volumes', 'say which volume of B each range lies in; the disk is read for that');
  addChainOptions(command).action(async (image: string, a: string, b: string, flags: DiffFlags) => {
    if (!(await diffCommand(image, a, b, flags))) exit(INCOMPLETE);
  });
}

/** False if something could not be compared. */
async function diffCommand(image: string, a: string, b: string, flags: DiffFlags): Promise<boolean> {
  const progress = new ProgressLine(process.stderr);
  const options = {
    ...{ isExact: flags.exact === true, hasVolumes: flags.volumes === true, writerOf },
    chain: toChainOptions(flags),
    passphrasesOf: passphraseSource(flags.passphraseFile ?? []),
    onProgress: (fraction: number) => progress.show(fraction),
  };
  const diff = await diffStates(image, a, b, options).finally(() => progress.clear());
  await writePieces(process.stdout, flags.json === true ? toJson(diff) : toLines(diff, process.stdout.isTTY));
  for (const problem of diff.problems) warn(`warning: ${toPrintable(problem)}`);
  return diff.isComplete;
}

function toJson({ ranges, volumes, ...diff }: StateDiff): Iterable<string> {
  const list = volumes === undefined ? ranges : [...splitAtVolumes(ranges, volumes)];
  return toJsonLines({ ...diff, changedBytes: ranges.totalBytes, ranges: list });
}

function* toLines(diff: StateDiff, isTerminal: boolean): Iterable<string> {
  const { ranges, volumes, aSizeBytes, bSizeBytes } = diff;
  if (ranges.length > 0) yield* formatRows(rowsOf(diff));
  if (volumes !== undefined && ranges.length > 0) yield `\n${[...formatRows(volumeRows(diff, volumes))].join('')}`;
  const sizeBytes = Math.max(aSizeBytes, bSizeBytes);
  if (isTerminal && sizeBytes > 0) yield `\n[${changeBar(ranges, sizeBytes, barWidth())}]\n`;
  const percent = sizeBytes === 0 ? 0 : (ranges.totalBytes / sizeBytes) * 100;
  const count = `${ranges.length} ${ranges.length === 1 ? 'range' : 'ranges'}`;
  const states = `${toPrintable(diff.a)} and ${toPrintable(diff.b)}`;
  yield `${states}: ${formatSize(ranges.totalBytes)} (${ranges.totalBytes} bytes, ${formatPercent(percent)} of the disk) ` +
    `in ${count}${aSizeBytes === bSizeBytes ? '' : `; the disk has ${formatSize(aSizeBytes)} and ${formatSize(bSizeBytes)}`}\n`;
}

/** As wide as a terminal usually is, at most. */
function barWidth(): number {
  return Math.max(10, Math.min(process.stdout.columns ?? 80, 80) - 2);
}

/** What is not nothing is not told as nothing. */
function formatPercent(percent: number): string {
  if (percent > 0 && percent < 0.01) return 'less than 0.01 %';
  return `${Number(percent.toPrecision(3))} %`;
}

function rowsOf({ ranges, volumes }: StateDiff): Iterable<string[]> {
  return {
    *[Symbol.iterator]() {
      if (volumes === undefined) {
        yield ['START', 'LENGTH'];
        for (const { start, length } of ranges) yield [String(start), String(length)];
        return;
      }
      yield ['START', 'LENGTH', 'VOLUMES'];
      for (const { start, length, volumes: names } of splitAtVolumes(ranges, volumes)) {
        yield [String(start), String(length), toPrintable(names.join(', ')) || NOTHING];
      }
    },
  };
}

/** How much has changed in each volume; in no volume at the end. */
function volumeRows({ ranges }: StateDiff, volumes: readonly PlacedVolume[]): string[][] {
  const changed = new Map(volumes.map(({ name }) => [name, 0]));
  let outside = 0;
  for (const { length, volumes: names } of splitAtVolumes(ranges, volumes)) {
    if (names.length === 0) outside += length;
    for (const name of names) changed.set(name, (changed.get(name) ?? 0) + length);
  }
  const rows = [...changed].map(([name, bytes]) => [toPrintable(name), formatSize(bytes)]);
  return [['VOLUME', 'CHANGED'], ...rows, ['(outside)', formatSize(outside)]];
}
