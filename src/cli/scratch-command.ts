/** `qcow2fs scratch`: a writable, throw-away view of one state. */

import path from 'node:path';
import { type Command, Option } from 'commander';
import { deltaPathOf, type ScratchOptions, TRANSPORT_CHOICES } from '../daemon/mount-options.ts';
import { requireDifferentFiles } from '../daemon/require-different-files.ts';
import { mountInBackground, mountInForeground } from '../daemon/start-daemon.ts';
import { Qcow2fsError } from '../errors.ts';
import { addChainOptions, append } from './chain-options.ts';
import { type MountFlags, toMountOptions } from './mount-flags.ts';
import { applyOptionLists, splitOptionList } from './option-list.ts';
import { parseSize } from './parse-size.ts';

interface ScratchFlags extends MountFlags {
  readonly delta?: string;
  readonly maxDelta: string;
  readonly export?: string;
  readonly flat?: boolean;
}

/** Enough to replay any journal, and not so much that a file system of a host is filled by mistake. */
export const DEFAULT_MAX_DELTA = '4G';

/** Adds the command; `exit` is called with the exit code of a mount in the foreground. */
export function addScratchCommand(program: Command, exit: (code: number) => void): void {
  const command = program
    .command('scratch')
    .description('show one state of IMAGE as a disk that can be written; IMAGE stays as it is')
    .argument('<IMAGE>', 'a qcow2 image')
    .argument('<STATE>', 'current, id:N, name:X or a snapshot name')
    .argument('<MOUNTPOINT>', 'an empty directory')
    .option('--delta <FILE>', 'keep the changes in FILE, and go on with those that are in it')
    .option('--max-delta <SIZE>', 'the most that changes may take: a number, with K, M, G or T', DEFAULT_MAX_DELTA)
    .option('--export <FILE>', 'make a qcow2 image of it when it is unmounted, with IMAGE as its backing file')
    .option('--flat', 'make that image without a backing file')
    .option('-o, --options <LIST>', 'options as of mount(8), as for `qcow2fs mount`', append)
    .option('-f, --foreground', 'stay in the foreground until it is unmounted')
    .addOption(new Option('--transport <NAME>', 'how to speak to the kernel').choices(TRANSPORT_CHOICES))
    .option('--log-file <FILE>', 'write the messages of the background process to FILE');
  addChainOptions(command).action(async (image: string, state: string, mountpoint: string, flags: ScratchFlags) => {
    requireNotReadOnly(flags.options ?? []);
    const { delta, maxDelta, export: exportPath, flat, ...mountFlags } = flags;
    const allFlags = applyOptionLists(mountFlags);
    if (allFlags.liveCurrent === true) {
      throw new Qcow2fsError('USAGE', 'live-current is not for scratch: a base that changes cannot be written over');
    }
    const scratch = toScratchOptions(state, {
      ...{ delta, maxDelta, exportPath },
      logFile: allFlags.logFile,
      isFlat: flat === true,
    });
    const options = { ...toMountOptions([image], mountpoint, allFlags), scratch };
    if (allFlags.foreground === true) exit(await mountInForeground(options));
    else await mountInBackground(options);
  });
}

/** `rw` after it takes it back, as in mount(8). */
function requireNotReadOnly(optionLists: readonly string[]): void {
  const last = optionLists.flatMap(splitOptionList).findLast((option) => option === 'ro' || option === 'rw');
  if (last !== 'ro') return;
  throw new Qcow2fsError('USAGE', 'ro is not for scratch, which is there to be written: use `qcow2fs mount`');
}

interface DeltaFlags {
  readonly delta: string | undefined;
  readonly maxDelta: string;
  readonly exportPath: string | undefined;
  readonly logFile: string | undefined;
  readonly isFlat: boolean;
}

function toScratchOptions(state: string, { delta, maxDelta, exportPath, logFile, isFlat }: DeltaFlags): ScratchOptions {
  if (isFlat && exportPath === undefined) throw new Qcow2fsError('USAGE', '--flat is about the file of --export');
  const deltaFile = delta === undefined ? undefined : path.resolve(delta);
  const exportFile = exportPath === undefined ? undefined : path.resolve(exportPath);
  const options = {
    state,
    maxDeltaBytes: parseSize(maxDelta, '--max-delta'),
    ...(deltaFile === undefined ? {} : { deltaPath: deltaFile }),
    ...(exportFile === undefined ? {} : { export: { path: exportFile, isFlat } }),
  };
  const deltaOption = deltaFile === undefined ? 'the delta of --export' : '--delta';
  requireDifferentFiles({ [deltaOption]: deltaPathOf(options), '--export': exportFile, '--log-file': logFile });
  return options;
}
