/** README.md, taken apart, and the means to run what it says. */

import fs from 'node:fs';
import path from 'node:path';
import { packageFolder } from '../../src/demo/week.ts';
import { QCOW2FS } from '../support/mounted-image.ts';
import { type CommandResult, tryCommand } from '../support/run-command.ts';

export const README = fs.readFileSync(path.join(packageFolder, 'README.md'), 'utf8');

/** The language of commands for an image that is not the demo's: `recipes.test.ts` makes one and runs them. */
export const OTHER_IMAGE = 'sh other-image';

export interface Block {
  readonly language: string;
  readonly text: string;
}

export function fencedBlocks(markdown: string): Block[] {
  return [...markdown.matchAll(/^```(.*)\n([\s\S]*?)^```$/gm)].map(([, language = '', text = '']) => ({
    language,
    text: text.trimEnd(),
  }));
}

/** The first block behind a text that is there once. */
export function blockBehind(text: string): Block {
  const [, behind, ...others] = README.split(text);
  const [block] = fencedBlocks(behind ?? '');
  if (block === undefined || others.length > 0) throw new Error(`README.md has not one block behind ${text}`);
  return block;
}

/** The rows of the table whose first column is called `title`, cell by cell. */
export function tableRows(title: string): string[][] {
  const table = README.split('\n\n').find((paragraph) => paragraph.startsWith(`| ${title} |`)) ?? '';
  return table
    .trimEnd()
    .split('\n')
    .slice(2)
    .map((row) => row.replace(/^\| | \|$/g, '').split(' | '));
}

export function inlineCode(markdown: string): string[] {
  return [...markdown.replace(/^```[\s\S]*?^```$/gm, '').matchAll(/`([^`]+)`/g)].map(([, code = '']) => code);
}

/** Each of these texts has to be there. */
export function replaceNames(commands: string, names: Readonly<Record<string, string>>): string {
  let replaced = commands;
  for (const [name, other] of Object.entries(names)) {
    if (!replaced.includes(name)) throw new Error(`${name} is not in:\n${replaced}`);
    replaced = replaced.replaceAll(name, other);
  }
  return replaced;
}

/** `qcow2fs` is the one of this checkout. */
export function linkLauncher(folder: string): void {
  fs.symlinkSync(QCOW2FS, path.join(folder, 'qcow2fs'));
}

/** The tests run as root: `sudo` runs its arguments, as another user with `-u`. */
export function writeSudo(folder: string): void {
  const script = '#!/bin/sh\nif [ "$1" = -u ]; then user=$2; shift 2; exec runuser -u "$user" -- "$@"; fi\nexec "$@"\n';
  fs.writeFileSync(path.join(folder, 'sudo'), script, { mode: 0o755 });
}

/** Runs commands as a reader would, in a folder; programs are looked for in `bin` first. */
export function runCommands(
  commands: string,
  { cwd, bin, env = {} }: { cwd: string; bin: string; env?: Readonly<Record<string, string>> },
): CommandResult {
  return tryCommand('bash', ['--norc', '-euo', 'pipefail', '-c', commands], {
    cwd,
    env: { ...env, PATH: `${bin}:${process.env.PATH ?? ''}` },
  });
}
