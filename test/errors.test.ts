/** Texts and names of errors, as Node.js throws them. */

import { getSystemErrorMap, getSystemErrorName } from 'node:util';
import { describe, expect, test } from 'vitest';
import { messageOf, systemCodeOf, systemTextOf, toSystemCode } from '../src/errors.ts';
import { runCommand } from './support/run-command.ts';

/** As `fs` throws it: uvException in lib/internal/errors.js of Node.js. */
function systemError(errno: number): Error {
  const unnamed = getSystemErrorName(-errno);
  const [code, text] = getSystemErrorMap().get(-errno) ?? [unnamed, unnamed];
  const syscall = 'fstat';
  return Object.assign(new Error(`${code}: ${text}, ${syscall}`), { errno: -errno, code, syscall });
}

/** Errors of Linux by the C library: all names of each number, and its text. */
function errorsOfSystem(): { readonly errno: number; readonly names: readonly string[]; readonly text: string }[] {
  const script = `
    my %names;
    push @{$names{&{"Errno::$_"}()}}, $_ for grep { /^E[0-9A-Z]+$/ } @Errno::EXPORT_OK;
    for (sort { $a <=> $b } keys %names) { $! = $_; print "$_ ", join("|", @{$names{$_}}), " $!\\n" }`;
  const lines = runCommand('perl', ['-MErrno', '-e', script]).trimEnd().split('\n');
  return lines.map((line) => {
    const [, errno, names = '', text = ''] = /^(\d+) (\S+) (.*)$/.exec(line) ?? expect.unreachable(line);
    return { errno: Number(errno), names: names.split('|'), text };
  });
}

/** What file systems answer with where they are on a server, damaged, encrypted, full, or on a device that is gone. */
const OF_FILE_SYSTEMS = [37, 52, 62, 67, 74, 116, 117, 122, 123, 124, 126, 127, 128, 129, 131, 133];

describe('system errors', () => {
  const errors = errorsOfSystem();

  test('are told with the name and the text of the C library where Node.js has none', () => {
    const named = errors.filter(({ errno }) => !/^Unknown/.test(systemCodeOf(systemError(errno)) ?? ''));
    expect(named.map(({ errno }) => errno)).toEqual(expect.arrayContaining(OF_FILE_SYSTEMS));
    for (const { errno, names, text } of named.filter((each) => !getSystemErrorMap().has(-each.errno))) {
      const error = systemError(errno);
      const code = systemCodeOf(error) ?? '';
      expect(names).toContain(code);
      expect(toSystemCode(getSystemErrorName(-errno))).toBe(code);
      expect(systemTextOf(error)).toBe(`${code}: ${text.charAt(0).toLowerCase()}${text.slice(1)}`);
      expect(messageOf(error)).toBe(`${systemTextOf(error)}, fstat`);
    }
  });

  test('that Node.js names are told as it tells them', () => {
    const error = systemError(2);
    expect(messageOf(error)).toBe('ENOENT: no such file or directory, fstat');
    expect(systemTextOf(error)).toBe('ENOENT: no such file or directory');
    expect(systemCodeOf(error)).toBe('ENOENT');
  });

  test('with a name alone, and with a number that nobody knows', () => {
    const code = getSystemErrorName(-116);
    const error = Object.assign(new Error(`spawn tool ${code}`), { errno: -116, code, syscall: 'spawn tool' });
    expect(messageOf(error)).toBe('spawn tool ESTALE: stale file handle');
    expect(messageOf(systemError(999))).toContain('-999');
    expect(systemCodeOf(systemError(999))).toBe(getSystemErrorName(-999));
  });

  test('are not looked for in other texts', () => {
    expect(messageOf(new Error('Unknown system error -116'))).toBe('Unknown system error -116');
    expect(messageOf('text')).toBe('text');
    expect(systemTextOf(new Error('a reason'))).toBe('a reason');
  });
});
