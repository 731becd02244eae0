/** A mount, used by a process of its own that may belong to any user. */

import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';
import readline from 'node:readline';
import { type Adapter, errnoError } from './adapter.ts';

export const AGENT = path.join(import.meta.dirname, 'agent.mjs');

interface Answer {
  readonly id: number;
  readonly result?: unknown;
  readonly code?: string;
}

/** `close` ends the process. `prefix` is a command that runs what follows it as somebody else; `agent` is the script. */
export function openMountedAdapter(
  mountpoint: string,
  prefix: readonly string[],
  agent: string,
): { files: Adapter; close: () => Promise<void> } {
  const [program = '', ...args] = [...prefix, process.execPath, agent, mountpoint];
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const ask = askThrough(child);
  const files: Adapter = {
    list: (name) => ask('list', name),
    stat: (name) => ask('stat', name),
    read: async (name, offset, length) => Buffer.from(await ask<string>('read', name, offset, length), 'base64'),
    readAll: async (name) => Buffer.from(await ask<string>('readAll', name), 'base64'),
    sha256: (name) => ask('sha256', name),
    readlink: (name) => ask('readlink', name),
    extents: (name) => ask('extents', name),
    seek: async (name, whence, offset) => (await ask<number | null>('seek', name, whence, offset)) ?? undefined,
    xattrs: (name) => ask('xattrs', name),
    xattr: (name, key) => ask('xattr', name, key),
    statistics: () => ask('statistics'),
    tryToWrite: (attempt) => ask('tryToWrite', attempt),
  };
  const ended = new Promise<void>((resolve) => child.on('exit', () => resolve()));
  return {
    files,
    close: () => {
      child.stdin?.end();
      return ended;
    },
  };
}

function askThrough(child: ChildProcess): <Result>(...request: unknown[]) => Promise<Result> {
  const waiting = new Map<number, (answer: Answer) => void>();
  let lastId = 0;
  if (child.stdin === null || child.stdout === null) throw new Error('the agent has no pipes');
  const { stdin } = child;
  readline.createInterface({ input: child.stdout }).on('line', (line) => {
    const answer = JSON.parse(line) as Answer;
    waiting.get(answer.id)?.(answer);
    waiting.delete(answer.id);
  });
  child.on('exit', () => {
    for (const [id, resolve] of waiting) resolve({ id, code: 'the agent ended' });
  });
  return async <Result>(...request: unknown[]) => {
    const id = ++lastId;
    const answered = new Promise<Answer>((resolve) => waiting.set(id, resolve));
    stdin.write(`${JSON.stringify([id, ...request])}\n`);
    const { result, code } = await answered;
    if (code !== undefined) throw errnoError(code);
    return result as Result;
  };
}
