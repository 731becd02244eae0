/** File systems as a machine leaves them that is snapshotted while it runs. */

import fs from 'node:fs';
import { runCommand, tryCommand } from '../support/run-command.ts';

export interface DirtyFileSystem {
  readonly mkfs: readonly [string, ...string[]];
  readonly sizeBytes: number;
}

/** Attempts to copy a disk while nothing is written to it. */
const MAX_COPY_COUNT = 20;

/** The disk of a machine at a moment when what it wrote last is in the journal only: `new.txt`, behind `old.txt`. */
export function writeDirtyDisk(raw: string, copy: string, folder: string, fileSystem: DirtyFileSystem): void {
  makeFileSystem(raw, fileSystem);
  runCommand('mount', ['-o', 'loop', raw, folder]);
  try {
    fs.writeFileSync(`${folder}/old.txt`, 'old');
    // Unfreezing leaves all that was written until then in its place.
    runCommand('fsfreeze', ['--freeze', folder]);
    runCommand('fsfreeze', ['--unfreeze', folder]);
    fs.writeFileSync(`${folder}/new.txt`, 'new', { flush: true });
    copyAtOneMoment(raw, copy);
  } finally {
    runCommand('umount', [folder]);
  }
}

/** Makes the file and the file system in it. */
export function makeFileSystem(raw: string, { mkfs: [command, ...args], sizeBytes }: DirtyFileSystem): void {
  fs.writeFileSync(raw, '');
  fs.truncateSync(raw, sizeBytes);
  runCommand(command, [...args, raw]);
}

/** Copies a disk that is in use, so that all of the copy is of one moment. */
export function copyAtOneMoment(raw: string, copy: string): void {
  for (let attempt = 0; attempt < MAX_COPY_COUNT; attempt++) {
    runCommand('cp', ['--sparse=always', raw, copy]);
    // What was the same after the copy was the same all the time.
    if (tryCommand('cmp', [raw, copy]).status === 0) return;
  }
  throw new Error(`${raw} is written to all the time`);
}
