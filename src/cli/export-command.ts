/** `qcow2fs export`: a state as a qcow2 file that a machine can start from. */

import type { Command } from 'commander';
import { warn } from '../common/logging.ts';
import { writerOf } from '../daemon/writer-of.ts';
import { type ExportedState, exportState } from '../open-image/export-state.ts';
import { addChainOptions } from './chain-options.ts';
import { formatSize, toPrintable } from './format.ts';
import { type ChainFlags, toChainOptions } from './mount-flags.ts';
import { passphraseSource } from './passphrases.ts';
import { ProgressLine } from './progress-line.ts';
import { untilSignal } from './until-signal.ts';

interface ExportFlags extends ChainFlags {
  readonly delta?: string;
  readonly flat?: boolean;
  readonly passphraseFile?: readonly string[];
}

export function addExportCommand(program: Command): void {
  const command = program
    .command('export')
    .description('write a state of IMAGE as a new qcow2 file: what differs from the current state, or all of it')
    .argument('<IMAGE>', 'a qcow2 image')
    .argument('<STATE>', 'current, id:N, name:X or a snapshot name')
    .argument('<FILE>', 'the new file; it must not be there yet')
    .option('--delta <FILE>', 'with the changes that `qcow2fs scratch --delta FILE` has kept')
    .option('--flat', 'copy all of the disk: FILE needs IMAGE no more');
  addChainOptions(command).action(exportCommand);
}

async function exportCommand(image: string, state: string, file: string, flags: ExportFlags): Promise<void> {
  const progress = new ProgressLine(process.stderr);
  const exported = await untilSignal(async (signal) => {
    try {
      return await exportState(image, {
        ...{ state, signal, writerOf, path: file, isFlat: flags.flat === true, deltaPath: flags.delta },
        chain: toChainOptions(flags),
        passphrasesOf: passphraseSource(flags.passphraseFile ?? []),
        onProgress: (fraction) => progress.show(fraction),
      });
    } finally {
      progress.clear();
    }
  });
  process.stdout.write(`${toPrintable(toText(file, exported))}\n`);
  for (const text of warningsOf(file, exported)) warn(toPrintable(text));
}

function toText(file: string, { sizeBytes, allocatedBytes, backingName }: ExportedState): string {
  const rest = backingName === undefined ? '' : `, the rest is in ${backingName}`;
  return `${file}: a disk of ${formatSize(sizeBytes)}, ${formatSize(allocatedBytes)} in the file${rest}`;
}

function warningsOf(file: string, { backingName, problems, wasEncrypted }: ExportedState): string[] {
  return [
    ...problems.map((problem) => `warning: ${problem}`),
    ...(wasEncrypted ? [`warning: ${file} is not encrypted: what was encrypted is plain in it`] : []),
    ...(backingName === undefined
      ? []
      : [
          `${file} is good only as long as nobody writes to ${backingName}: start no machine from that one, or export with --flat`,
        ]),
  ];
}
