/** `qcow2fs mount`, and `qcow2fs IMAGE MOUNTPOINT`, which mount(8) runs for the type fuse.qcow2fs. */

import fs from 'node:fs';
import type { Command } from 'commander';
import { mountInBackground, mountInForeground } from '../daemon/start-daemon.ts';
import { Qcow2fsError } from '../errors.ts';
import { type MountFlags, toMountOptions } from './mount-flags.ts';
import { applyOptionLists } from './option-list.ts';

const NAME = 'mount';

/** Adds the command; `exit` is called with the exit code of a mount in the foreground. */
export function addMountCommand(program: Command, exit: (code: number) => void): void {
  program
    .command(NAME, { isDefault: true })
    .description('show the states of IMAGE under the directory MOUNTPOINT')
    .argument('<IMAGE>', 'a qcow2 image: a file or a block device')
    .argument('[MOUNTPOINT]', 'an empty directory')
    .usage('[options] IMAGE MOUNTPOINT')
    .option(
      '-o, --options <LIST>',
      'options as of mount(8): allow_other,uid=1000,… and those below, as NAME=VALUE',
      append,
    )
    .option('-f, --foreground', 'stay in the foreground until it is unmounted')
    .option('--direct-io', 'do not keep what was read in the page cache')
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
    .action(async (image: string, mountpoint: string | undefined, flags: MountFlags) => {
      if (program.args[0] !== NAME) refuseUnknownCommand(image);
      if (mountpoint === undefined) {
        throw new Qcow2fsError('USAGE', `where is ${image} to be mounted? qcow2fs mount IMAGE MOUNTPOINT`);
      }
      const allFlags = applyOptionLists(flags);
      const options = toMountOptions(image, mountpoint, allFlags);
      if (allFlags.foreground === true) exit(await mountInForeground(options));
      else await mountInBackground(options);
    });
}

/** For an option that may be given several times. */
export function append(value: string, values: readonly string[] = []): string[] {
  return [...values, value];
}

/** A first word that is neither a command nor a path is a mistyped command. */
function refuseUnknownCommand(word: string): void {
  if (word.includes('/') || fs.existsSync(word)) return;
  throw new Qcow2fsError(
    'USAGE',
    `there is neither a command nor an image called ${word}; qcow2fs --help shows the commands`,
    { data: { word } },
  );
}
