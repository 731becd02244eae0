/** `qcow2fs list`: the snapshots and their space, which the image file alone tells, or the volumes, for which the disks are read. */

import type { Command } from 'commander';
import { warn } from '../common/logging.ts';
import { writerOf } from '../daemon/writer-of.ts';
import { Qcow2fsError } from '../errors.ts';
import type { VolumeDescription } from '../open-image/describe-volumes.ts';
import { listVolumes, type VolumeListing } from '../open-image/list-volumes.ts';
import { addChainOptions } from './chain-options.ts';
import { type DescribeOptions, toJsonLines } from './describe-commands.ts';
import { formatRows, formatSize, toPrintable } from './format.ts';
import { listSnapshots, listWouldFree } from './list-space.ts';
import { type ChainFlags, toChainOptions } from './mount-flags.ts';
import { passphraseSource } from './passphrases.ts';
import { writePieces } from './write-pieces.ts';

interface VolumeFlags extends ChainFlags {
  readonly state?: string;
  readonly passphraseFile?: readonly string[];
}

interface ListFlags extends DescribeOptions, VolumeFlags {
  readonly volumes?: boolean;
  readonly wouldFree?: readonly string[];
}

const HEADINGS = ['STATE', 'VOLUME', 'START', 'SIZE', 'TYPE', 'FILE SYSTEM', 'LABEL', 'UUID', 'DIRTY'];
const NOTHING = '-';

export function addListCommand(program: Command): void {
  const command = program
    .command('list')
    .description('show the snapshots of IMAGE: id, name, date, size; or the volumes in each state')
    .argument('<IMAGE>', 'a qcow2 image')
    .option('--json', 'print one JSON object')
    .option(
      '--would-free <STATE...>',
      'what deleting these snapshots together would free; A..B: all from A to B by date',
    )
    .option('--volumes', 'show partitions, logical volumes and their file systems; the options below are for this')
    .option('--state <STATE>', 'of one state only: current, id:N, name:X or a snapshot name');
  addChainOptions(command).action(async (image: string, { json, volumes, wouldFree, ...flags }: ListFlags) => {
    const options = json === undefined ? {} : { json };
    if (volumes === true) {
      if (wouldFree !== undefined)
        throw new Qcow2fsError('USAGE', '--volumes and --would-free are two questions: ask one');
      return volumesCommand(image, options, flags);
    }
    if (Object.keys(flags).length > 0) {
      throw new Qcow2fsError(
        'USAGE',
        'list takes options besides --json and --would-free only with --volumes: no disk is read without it',
      );
    }
    return wouldFree === undefined ? listSnapshots(image, options) : listWouldFree(image, wouldFree, options);
  });
}

async function volumesCommand(imagePath: string, { json }: DescribeOptions, flags: VolumeFlags): Promise<void> {
  const listing = await listVolumes(imagePath, {
    chain: toChainOptions(flags),
    passphrasesOf: passphraseSource(flags.passphraseFile ?? []),
    state: flags.state,
    writerOf,
  });
  await writePieces(process.stdout, json ? toJsonLines(listing.volumes) : formatRows([HEADINGS, ...toRows(listing)]));
  for (const text of [...listing.problems, ...warningsOf(listing)]) warn(`warning: ${toPrintable(text)}`);
}

/** A state without volumes has a row too: that it was looked at is worth knowing. */
function toRows({ volumes, names }: VolumeListing): string[][] {
  return volumes.states.flatMap(({ volumes: found }, index) => {
    const name = toPrintable(names[index] ?? '');
    if (found.length === 0) return [[name, ...HEADINGS.slice(1).map(() => NOTHING)]];
    return found.map((volume) => [name, ...toCells(volume)]);
  });
}

function toCells({ name, startBytes, sizeBytes, partitionType, fileSystem }: VolumeDescription): string[] {
  return [
    toPrintable(name),
    startBytes === null ? NOTHING : String(startBytes),
    formatSize(sizeBytes),
    partitionType ?? NOTHING,
    fileSystem?.type ?? NOTHING,
    toPrintable(fileSystem?.label ?? '') || NOTHING,
    toPrintable(fileSystem?.uuid ?? '') || NOTHING,
    toWord(fileSystem?.dirty ?? null),
  ];
}

function toWord(dirty: boolean | null): string {
  if (dirty === null) return NOTHING;
  return dirty ? 'yes' : 'no';
}

function warningsOf({ volumes, names }: VolumeListing): string[] {
  return volumes.states.flatMap(({ unsupportedVolumes, volumeProblems }, index) => [
    ...unsupportedVolumes.map(({ name, reason }) => `${names[index]}: ${name} cannot be shown: ${reason}`),
    ...volumeProblems.map((problem) => `${names[index]}: ${problem}`),
  ]);
}
