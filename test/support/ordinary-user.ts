/** A user account for the run, since fusermount3 serves only users that /etc/passwd knows. */

import fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { type CommandOptions, type CommandResult, runCommand, tryCommand } from './run-command.ts';

/** Ends with the pid of the run. */
const NAME_PREFIX = 'qcow2fs-test-';
const VARIABLE = 'QCOW2FS_TEST_USER';
/** useradd and userdel give up at once when somebody else has /etc/passwd locked. */
const ATTEMPT_COUNT = 50;

export interface OrdinaryUser {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/** Makes the account of this run, and removes those that killed runs have left. */
export async function createOrdinaryUser(): Promise<void> {
  for (const { name } of accounts()) {
    if (name.startsWith(NAME_PREFIX) && !fs.existsSync(`/proc/${name.slice(NAME_PREFIX.length)}`)) {
      await insist('userdel', [name]);
    }
  }
  const name = NAME_PREFIX + process.pid;
  await insist('useradd', ['--no-create-home', '--user-group', '--shell', '/bin/sh', '--home-dir', '/', name]);
  process.env[VARIABLE] = name;
}

export async function removeOrdinaryUser(): Promise<void> {
  await insist('userdel', [ordinaryUser().name]);
}

export function ordinaryUser(): OrdinaryUser {
  const user = accounts().find(({ name }) => name === process.env[VARIABLE]);
  if (user === undefined) throw new Error('the account for the tests is gone');
  return user;
}

/** Command and arguments that run what follows them as the ordinary user. */
export function asOrdinaryUser(): string[] {
  const { uid, gid } = ordinaryUser();
  return ['setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--init-groups', '--'];
}

export function tryAsOrdinaryUser(command: readonly string[], options: CommandOptions = {}): CommandResult {
  const [program = '', ...args] = [...asOrdinaryUser(), ...command];
  return tryCommand(program, args, options);
}

export function runAsOrdinaryUser(command: readonly string[], options: CommandOptions = {}): string {
  const [program = '', ...args] = [...asOrdinaryUser(), ...command];
  return runCommand(program, args, options);
}

function accounts(): OrdinaryUser[] {
  return fs
    .readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'))
    .map(([name = '', , uid, gid]) => ({ name, uid: Number(uid), gid: Number(gid) }));
}

async function insist(command: string, args: readonly string[]): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const { status, stderr } = tryCommand(command, args);
    if (status === 0) return;
    if (attempt === ATTEMPT_COUNT || !stderr.includes('lock')) throw new Error(`${command}: ${stderr}`);
    await sleep(100);
  }
}
