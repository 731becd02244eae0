/** The options about the files that an image stands on: those of all commands that read disks. */

import type { Command } from 'commander';

export function addChainOptions(command: Command): Command {
  return command
    .option(
      '--passphrase-file <FILE>',
      'read the passphrase of an encrypted image from FILE, or from standard input (-); once for all encrypted files, ' +
        'or once for each',
      append,
    )
    .option('--allow-path <DIR>', 'let backing files be opened in DIR too, besides the folder of IMAGE', append)
    .option('--backing <FILE>', 'take FILE as the backing file, whatever file IMAGE names')
    .option('--data-file <FILE>', 'take FILE as the external data file, whatever file IMAGE names')
    .option('--no-backing', 'open no backing file: what would come from it cannot be read');
}

/** For an option that may be given several times. */
export function append(value: string, values: readonly string[] = []): string[] {
  return [...values, value];
}
