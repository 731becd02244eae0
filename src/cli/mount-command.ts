/** `qcow2fs mount`, and `qcow2fs IMAGE MOUNTPOINT`, which mount(8) runs for the type fuse.qcow2fs. */

import fs from 'node:fs';
import { type Command, Option } from 'commander';
import { ON_MISSING, TRANSPORT_CHOICES } from '../daemon/mount-options.ts';
import { mountInBackground, mountInForeground } from '../daemon/start-daemon.ts';
import { Qcow2fsError } from '../errors.ts';
import { addChainOptions, append } from './chain-options.ts';
import { type MountFlags, toMountOptions } from './mount-flags.ts';
import { applyOptionLists } from './option-list.ts';

export const MOUNT = 'mount';

/** Adds the command; `exit` is called with the exit code of a mount in the foreground. */
export function addMountCommand(program: Command, exit: (code: number) => void): void {
  const command = program
    .command(MOUNT, { isDefault: true })
    .description('show the states of IMAGE under the directory MOUNTPOINT; of several, in a folder each')
    .argument('[FILE...]', 'qcow2 images (files or block devices), and at the end MOUNTPOINT, an empty directory')
    .usage('[options] IMAGE... MOUNTPOINT')
    .option(
      '-o, --options <LIST>',
      'options as of mount(8): allow_other,uid=1000,… and those below, as NAME=VALUE',
      append,
    )
    .option('-f, --foreground', 'stay in the foreground until it is unmounted')
    .option('--direct-io', 'do not keep what was read in the page cache')
    .addOption(new Option('--transport <NAME>', 'how to speak to the kernel').choices(TRANSPORT_CHOICES))
    .option('--log-file <FILE>', 'write the messages of the background process to FILE');
  addChainOptions(command)
    .addOption(
      new Option(
        '--on-missing <WHAT>',
        'what bytes past the end of a cut image file give: an error, or zeros as in QEMU',
      )
        .choices(ON_MISSING)
        .default('error'),
    )
    .option(
      '--live-current',
      'read the current state even while a virtual machine writes to IMAGE: crash-inconsistent at best',
    )
    .action(async (files: readonly string[], flags: MountFlags) => {
      if (program.args.length === 0) program.help({ error: true });
      if (program.args[0] !== MOUNT) refuseUnknownCommand(files[0] ?? '');
      const mountpoint = files.at(-1);
      if (mountpoint === undefined || files.length < 2) {
        throw new Qcow2fsError('USAGE', 'an image or a mountpoint is missing: qcow2fs mount IMAGE... MOUNTPOINT');
      }
      // What a variable of the shell becomes that is not set; as a path it would be the working directory.
      if (files.includes('')) throw new Qcow2fsError('USAGE', 'the name of an image or of the mountpoint is empty');
      const allFlags = applyOptionLists(flags);
      const options = toMountOptions(files.slice(0, -1), mountpoint, allFlags);
      if (allFlags.foreground === true) exit(await mountInForeground(options));
      else await mountInBackground(options);
    });
}

/** A first word that is neither a command nor a path is a mistyped command. */
function refuseUnknownCommand(word: string): void {
  if (word === '' || word.includes('/') || fs.existsSync(word)) return;
  throw new Qcow2fsError(
    'USAGE',
    `there is neither a command nor an image called ${word}; qcow2fs --help shows the commands`,
    { data: { word } },
  );
}
