/** The command line: commands, arguments, options. */

import fs from 'node:fs';
import { Command } from 'commander';
import { unmount } from '../daemon/stop-mount.ts';
import { runDemo } from '../demo/run-demo.ts';
import { append } from './chain-options.ts';
import { type CheckFlags, checkCommand } from './check-command.ts';
import { type DescribeOptions, infoCommand } from './describe-commands.ts';
import { addDiffCommand } from './diff-command.ts';
import { requireNoEmptyValue } from './empty-values.ts';
import { addExecCommand } from './exec-command.ts';
import { addExportCommand } from './export-command.ts';
import { toPrintable } from './format.ts';
import { addListCommand } from './list-command.ts';
import { addMapCommand } from './map-command.ts';
import { addMountCommand } from './mount-command.ts';
import { type ChainFlags, toChainOptions } from './mount-flags.ts';
import { addScratchCommand } from './scratch-command.ts';

/** The program; `exit` is called with the exit code of a command that has more to say than that it is done. */
export function createProgram(exit: (code: number) => void): Command {
  const program = new Command('qcow2fs')
    .description('Mount a qcow2 image: every snapshot, and the current state, is a read-only raw file.')
    .version(packageVersion())
    .configureOutput({ outputError: (text, write) => write(toOneLine(text)) })
    .hook('preAction', (_, command) => requireNoEmptyValue(command))
    .configureHelp({ subcommandTerm: (command) => `${command.name()} ${command.usage()}` })
    .addHelpText('after', '\nExit codes: 0 done, 1 failed, 2 wrong usage. DEBUG=qcow2fs:* logs everything.');

  addMountCommand(program, exit);

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

  return program;
}

/** What commander says is wrong, as all messages are: its suggestion has a line of its own. */
function toOneLine(text: string): string {
  const [what = '', ...suggestions] = text
    .replace(/^error: /, '')
    .trimEnd()
    .split('\n');
  const words = [what.replace(/\.$/, ''), ...suggestions].map(toPrintable).join(' ');
  return `qcow2fs: ${words}; qcow2fs --help, or qcow2fs COMMAND --help, shows how it is used\n`;
}

function packageVersion(): string {
  const { version } = JSON.parse(fs.readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  return version;
}
