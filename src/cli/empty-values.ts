/** Empty words on the command line: what a variable of the shell becomes that is not set. */

import type { Command } from 'commander';
import { Qcow2fsError } from '../errors.ts';

/** `-o ''` is a list without options. */
const MAY_BE_EMPTY = ['options'];

/**
 * As a path, an empty word would be the working directory.
 * @throws Qcow2fsError USAGE for an option of `command` with an empty value, or an argument of its own that is empty.
 */
export function requireNoEmptyValue(command: Command): void {
  for (const option of command.options) {
    const name = option.attributeName();
    if (MAY_BE_EMPTY.includes(name)) continue;
    const value: unknown = command.getOptionValue(name);
    if (value === '' || (Array.isArray(value) && value.includes(''))) throw empty(option.long ?? option.flags);
  }
  for (const [index, argument] of command.registeredArguments.entries()) {
    if (!argument.variadic && command.args[index] === '') throw empty(argument.name());
  }
}

function empty(what: string): Qcow2fsError {
  return new Qcow2fsError('USAGE', `${what} is empty`);
}
