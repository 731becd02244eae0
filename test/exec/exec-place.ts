/** Runs `qcow2fs exec` with a temporary folder of its own, in which all that it could leave behind would be found. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'vitest';
import { sha256OfFile } from '../support/hash.ts';
import { loopDevicesBelow, processesNaming } from '../support/leftovers.ts';
import { QCOW2FS } from '../support/mounted-image.ts';
import { type CommandResult, tryCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

/** Until the kernel and the daemon have cleaned up behind a process that was killed, on a busy machine. */
const PATIENCE_MS = 10_000;

export interface ExecPlace {
  readonly folder: string;
  /** Where `qcow2fs exec` makes its folder. */
  readonly temporary: string;
  /** Runs it to its end, with all words behind `exec`. */
  readonly exec: (words: readonly string[], options?: { readonly input?: string }) => CommandResult;
  /** Starts it, in a process group of its own, with these variables on top of ours. */
  readonly start: (words: readonly string[], env?: Readonly<Record<string, string>>) => StartedExec;
}

export interface StartedExec {
  readonly process: ChildProcess;
  /** What it has printed so far. */
  readonly output: () => string;
  /** Resolves when it has ended, to its exit code, or the name of the signal that ended it. */
  readonly ended: Promise<number | string>;
}

/** Runs `body`; fails if anything but empty folders is left afterwards. `images` are the same afterwards. */
export async function withExec(body: (place: ExecPlace) => void | Promise<void>): Promise<void> {
  await withTemporaryFolder(async (folder) => {
    const temporary = path.join(folder, 'temporary');
    fs.mkdirSync(temporary);
    const env = { TMPDIR: temporary };
    const started: StartedExec[] = [];
    const exec: ExecPlace['exec'] = (words, options) => tryCommand(QCOW2FS, ['exec', ...words], { ...options, env });
    const start: ExecPlace['start'] = (words, own) => {
      const one = startExec(words, { ...env, ...own });
      started.push(one);
      return one;
    };
    try {
      await body({ folder, temporary, exec, start });
      await expectNothingLeft(temporary);
    } finally {
      for (const { process } of started) process.kill('SIGKILL');
      for (const line of processesNaming(temporary)) tryCommand('kill', ['-KILL', line.split(':', 1)[0] ?? '']);
    }
  });
}

function startExec(words: readonly string[], env: Readonly<Record<string, string>>): StartedExec {
  const child = spawn(QCOW2FS, ['exec', ...words], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
    detached: true,
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (output += text));
  const ended = once(child, 'close').then(([code, signal]) => (code ?? signal) as number | string);
  return { process: child, output: () => output, ended };
}

/** Loop devices, mounts in any namespace, and processes; the folder has only empty folders in it. */
export async function expectNothingLeft(temporary: string): Promise<void> {
  await expect.poll(() => leftIn(temporary), { timeout: PATIENCE_MS }).toEqual([]);
  for (const name of fs.readdirSync(temporary)) expect(fs.readdirSync(path.join(temporary, name))).toEqual([]);
}

function leftIn(temporary: string): string[] {
  return [...processesNaming(temporary), ...loopDevicesBelow(temporary), ...mountsAnywhere(temporary)];
}

function mountsAnywhere(folder: string): string[] {
  return fs
    .readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      const lines = readOrNothing(`/proc/${pid}/mountinfo`).split('\n');
      return lines.filter((line) => line.includes(`${folder}/`)).map((line) => `${pid}: ${line}`);
    });
}

/** Nothing of a process that has ended since. */
function readOrNothing(file: string): string {
  try {
    return fs.readFileSync(file, 'latin1');
  } catch {
    return '';
  }
}

/** Fails unless a file is the same after `body`, to the byte and to the nanosecond. */
export async function whileUnchanged(file: string, body: () => void | Promise<void>): Promise<void> {
  const fingerprint = () => `${sha256OfFile(file)} ${fs.statSync(file, { bigint: true }).mtimeNs}`;
  const before = fingerprint();
  await body();
  expect(fingerprint()).toBe(before);
}
