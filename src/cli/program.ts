/** The command line: commands, arguments, options. */

import fs from 'node:fs';
import path from 'node:path';
import { Command, Option } from 'commander';
import { TRANSPORT_CHOICES, type TransportChoice } from '../daemon/mount-options.ts';
import { mountInBackground, mountInForeground } from '../daemon/start-daemon.ts';
import { unmount } from '../daemon/stop-mount.ts';
import { runDemo } from '../demo/run-demo.ts';
import type { ChainOptions } from '../open-image/layers.ts';
import { type CheckFlags, checkCommand } from './check-command.ts';
import { type DescribeOptions, infoCommand, listCommand } from './describe-commands.ts';
import { passphraseSource } from './passphrases.ts';

interface ChainFlags {
  readonly allowPath?: readonly string[];
  /** false for --no-backing */
  readonly backing?: string | false;
  readonly dataFile?: string;
}

interface MountFlags extends ChainFlags {
  readonly foreground?: boolean;
  readonly directIo?: boolean;
  readonly transport: TransportChoice;
  readonly logFile?: string;
  readonly passphraseFile?: readonly string[];
}

/** The program; `exit` is called with the exit code of a command that has more to say than that it is done. */
export function createProgram(exit: (code: number) => void): Command {
  const program = new Command('qcow2fs')
    .description('Mount a qcow2 image: every snapshot, and the current state, is a read-only raw file.')
    .version(packageVersion())
    .showHelpAfterError('(qcow2fs --help, or qcow2fs COMMAND --help, shows how it is used)')
    .addHelpText('after', '\nExit codes: 0 done, 1 failed, 2 wrong usage. DEBUG=qcow2fs:* logs everything.');

  program
    .command('mount')
    .description('show the states of IMAGE under the directory MOUNTPOINT')
    .argument('<IMAGE>', 'a qcow2 image: a file or a block device')
    .argument('<MOUNTPOINT>', 'an existing directory')
    .option('-f, --foreground', 'stay in the foreground until it is unmounted')
    .option('--direct-io', 'do not keep what was read in the page cache')
    .addOption(
      new Option('--transport <NAME>', 'how to speak to the kernel')
        .choices(TRANSPORT_CHOICES)
        .default('auto' satisfies TransportChoice),
    )
    .option('--log-file <FILE>', 'write the messages of the background process to FILE')
    .option(
      '--passphrase-file <FILE>',
      'read the passphrase of an encrypted image from FILE, or from standard input (-); once for all files of a chain, ' +
        'or once for each',
      append,
    )
    .option('--allow-path <DIR>', 'let backing files be opened in DIR too, besides the folder of IMAGE', append)
    .option('--backing <FILE>', 'take FILE as the backing file, whatever IMAGE says')
    .option('--data-file <FILE>', 'take FILE as the external data file, whatever IMAGE says')
    .option('--no-backing', 'open no backing file: what would come from it cannot be read')
    .action(async (image: string, mountpoint: string, flags: MountFlags) => {
      const options = {
        imagePath: image,
        mountpoint,
        directIo: flags.directIo === true,
        transport: flags.transport,
        passphrasesOf: passphraseSource(flags.passphraseFile ?? []),
        chain: toChainOptions(flags),
        ...(flags.logFile === undefined ? {} : { logFile: flags.logFile }),
      };
      if (flags.foreground === true) exit(await mountInForeground(options));
      else await mountInBackground(options);
    });

  program
    .command('umount')
    .description('end a mount and its process')
    .argument('<MOUNTPOINT>', 'where it is mounted')
    .action((mountpoint: string) => unmount(mountpoint));

  program
    .command('list')
    .description('show the snapshots of IMAGE: id, name, date, size')
    .argument('<IMAGE>', 'a qcow2 image')
    .option('--json', 'print one JSON object')
    .action((image: string, options: DescribeOptions) => listCommand(image, options));

  program
    .command('info')
    .description('show the header, features, backing chain and problems of IMAGE')
    .argument('<IMAGE>', 'a qcow2 image')
    .option('--json', 'print one JSON object')
    .option('--allow-path <DIR>', 'let backing files be looked at in DIR too', append)
    .action((image: string, options: DescribeOptions & ChainFlags) =>
      infoCommand(image, options, toChainOptions(options)),
    );

  program
    .command('check')
    .description('check that IMAGE is consistent; nothing is repaired')
    .argument('<IMAGE>', 'a qcow2 image')
    .option('--json', 'print one JSON object')
    .addHelpText('after', '\nExit codes: 0 clean, 1 not (fully) checked, 2 corrupt or wrong usage, 3 leaks only.')
    .action((image: string, flags: CheckFlags) => exit(checkCommand(image, flags)));

  program
    .command('demo')
    .description('do all of it once, with an image that comes with this program')
    .action(() => runDemo());

  return program;
}

/** For an option that may be given several times. */
function append(value: string, values: readonly string[] = []): string[] {
  return [...values, value];
}

function toChainOptions({ allowPath = [], backing, dataFile }: ChainFlags): ChainOptions {
  return {
    allowedFolders: allowPath.map((folder) => path.resolve(folder)),
    ...(typeof backing === 'string' ? { backingPath: path.resolve(backing) } : {}),
    ...(backing === false ? { backingPath: null } : {}),
    ...(dataFile === undefined ? {} : { dataFilePath: path.resolve(dataFile) }),
  };
}

function packageVersion(): string {
  const { version } = JSON.parse(fs.readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  return version;
}
