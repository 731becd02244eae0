/** The command line: commands, arguments, options. */

import fs from 'node:fs';
import { Command } from 'commander';
import { requireNoEmptyValue } from './empty-values.ts';
import { toPrintable } from './format.ts';
import { addMountCommand, MOUNT } from './mount-command.ts';

/**
 * The program for a command line that begins with `firstWord`; `exit` is called with the exit code of a command that has more
 * to say than that it is done. `mount` is waited for, so the other commands, with all they take, are not loaded for it.
 */
export async function createProgram(firstWord: string | undefined, exit: (code: number) => void): Promise<Command> {
  const program = new Command('qcow2fs')
    .description('Mount a qcow2 image: every snapshot, and the current state, is a read-only raw file.')
    .version(packageVersion())
    .configureOutput({ outputError: (text, write) => write(toOneLine(text)) })
    .hook('preAction', (_, command) => requireNoEmptyValue(command))
    .configureHelp({ subcommandTerm: (command) => `${command.name()} ${command.usage()}` })
    .addHelpText('after', '\nExit codes: 0 done, 1 failed, 2 wrong usage. DEBUG=qcow2fs:* logs everything.');

  addMountCommand(program, exit);
  if (firstWord !== MOUNT) (await import('./other-commands.ts')).addOtherCommands(program, exit);
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
