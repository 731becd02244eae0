/** All commands but `mount`. */

import type { Command } from 'commander';
import { unmount } from '../daemon/stop-mount.ts';
import { runDemo } from '../demo/run-demo.ts';
import { append } from './chain-options.ts';
import { type CheckFlags, checkCommand } from './check-command.ts';
import { type DescribeOptions, infoCommand } from './describe-commands.ts';
import { addDiffCommand } from './diff-command.ts';
import { addExecCommand } from './exec-command.ts';
import { addExportCommand } from './export-command.ts';
import { addListCommand } from './list-command.ts';
import { addMapCommand } from './map-command.ts';
import { type ChainFlags, toChainOptions } from './mount-flags.ts';
import { addScratchCommand } from './scratch-command.ts';

/** Adds them in the order of the help; `exit` is as for `createProgram`. */
export function addOtherCommands(program: Command, exit: (code: number) => void): void {
  program
    .command('umount')
    .description('end a mount and its process')
    .argument('<MOUNTPOINT>', 'where it is mounted')
    .action((mountpoint: string) => unmount(mountpoint));

  addListCommand(program);

  addMapCommand(program, exit);

  addDiffCommand(program, exit);

  addScratchCommand(program, exit);

  addExecCommand(program, exit);

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

  addExportCommand(program);

  program
    .command('demo')
    .description('do all of it once, with an image that comes with this program')
    .action(() => runDemo());
}
