/** Entry point of `qcow2fs`: runs a command and turns its outcome into an exit code and one line on stderr. */

import { CommanderError } from 'commander';
import { createLogger, tolerateLostStderr, warn } from '../common/logging.ts';
import { messageOf, Qcow2fsError } from '../errors.ts';
import { toPrintable } from './format.ts';
import { createProgram } from './program.ts';

const FAILED = 1;
const WRONG_USAGE = 2;

const log = createLogger('cli');

// `qcow2fs list IMAGE | head` closes our stdout early: that is no failure of ours, and the command goes on to its end.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') return;
  warn(`cannot write to standard output: ${messageOf(error)}`);
  process.exitCode = FAILED;
});

// Progress, hints and errors are told there: whether anybody reads them decides neither what is done nor the exit code.
tolerateLostStderr();

const program = await createProgram(process.argv[2], (code) => {
  process.exitCode = code;
});
for (const command of [program, ...program.commands]) command.exitOverride();

try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = report(error);
}

/** Prints what went wrong, once; returns the exit code. */
function report(error: unknown): number {
  // commander has printed its message (or the help that was asked for) itself.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : WRONG_USAGE;
  log('%O', error);
  if ((error as NodeJS.ErrnoException).syscall === 'uv_cwd') {
    warn('the working directory does not exist any more: change to another one, or name files by their whole paths');
    return FAILED;
  }
  const isExpected = error instanceof Qcow2fsError && error.code !== 'INTERNAL';
  const message = toPrintable(messageOf(error));
  warn(isExpected ? message : `internal error: ${message} (DEBUG=qcow2fs:* shows where; please report it)`);
  return error instanceof Qcow2fsError && error.code === 'USAGE' ? WRONG_USAGE : FAILED;
}
