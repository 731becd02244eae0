/** Runs programs so that Ctrl-C ends them, and undoes what was set up, in reverse order. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';

const interruption = new AbortController();
/** @type {(() => unknown)[]} */
const undoings = [];
let allUndone = true;

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => interruption.abort(new Error(`interrupted by ${signal}`)));
}

/** Remembers what `undoAll` has to do. */
export function undoLater(undo) {
  undoings.push(undo);
}

/** Undoes everything, whatever fails on the way; says whether all went well, also in scopes that have ended. */
export async function undoAll() {
  await undoDownTo(0);
  return allUndone;
}

/** Does some work and then undoes what it has set up, however it ended. */
export async function inScope(work) {
  const depth = undoings.length;
  try {
    return await work();
  } finally {
    await undoDownTo(depth);
  }
}

/** Throws if the run was interrupted. */
export function checkInterrupted() {
  interruption.signal.throwIfAborted();
}

/**
 * Runs a program to its end and returns its standard output; throws when it fails or the run is interrupted.
 * `okCodes` are the exit codes of success; with `timeoutMs` it is ended after that time, and a `TimeoutError` thrown.
 */
export async function run(command, args, { okCodes, timeoutMs } = {}) {
  return await runToEnd(command, args, { okCodes, spawn: { signal: interruption.signal, timeout: timeoutMs } });
}

/** As `run`, but goes on when the run is interrupted: for undoing, and for what must not be left half done. */
export async function runAnyway(command, args) {
  // In a process group of its own, which the terminal's Ctrl-C does not reach.
  return await runToEnd(command, args, { spawn: { detached: true } });
}

export class TimeoutError extends Error {}

/** Starts a program that goes on in the background, out of reach of the terminal's Ctrl-C. */
export function start(command, args) {
  const child = spawn(command, args, { detached: true, stdio: ['ignore', 'ignore', 'inherit'] });
  const ended = once(child, 'exit');
  return {
    pid: child.pid,
    hasEnded: () => child.exitCode !== null || child.signalCode !== null,
    async stop() {
      child.kill('SIGTERM');
      await ended;
    },
  };
}

async function runToEnd(command, args, { okCodes = [0], spawn: options }) {
  options.signal?.throwIfAborted();
  const child = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
  const output = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr']) {
    child[name].setEncoding('utf8').on('data', (text) => {
      output[name] += text;
    });
  }
  let code;
  let signal;
  try {
    [code, signal] = await once(child, 'close');
  } catch (error) {
    // The signal ends the child, and its reason says more than the error that comes of that.
    options.signal?.throwIfAborted();
    throw error;
  }
  if (okCodes.includes(code)) return output.stdout;
  const title = [command, ...args].join(' ');
  if (options.timeout !== undefined && signal === 'SIGTERM') throw new TimeoutError(`${title}: takes too long`);
  throw new Error(`${title}: exit ${code ?? signal}\n${output.stderr}`);
}

async function undoDownTo(depth) {
  while (undoings.length > depth) {
    try {
      await undoings.pop()();
    } catch (error) {
      allUndone = false;
      console.error(`bench: ${error.message}`);
    }
  }
}
